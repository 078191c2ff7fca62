-- +goose Up
CREATE TABLE postbus_topics (
    topic    text PRIMARY KEY,
    messages text NOT NULL,
    offsets  text NOT NULL,
    origin   text NOT NULL DEFAULT ''
);
CREATE TABLE postbus_groups (
    topic      text NOT NULL,
    grp        text NOT NULL,
    part       integer NOT NULL,
    parts      integer NOT NULL,
    owner      text NOT NULL DEFAULT '',
    token      integer NOT NULL DEFAULT 0,
    expires_ms integer NOT NULL DEFAULT 0,
    state      blob NOT NULL,
    PRIMARY KEY (topic, grp, part)
);
CREATE TABLE postbus_later (
    id       integer PRIMARY KEY AUTOINCREMENT,
    topic    text NOT NULL,
    grp      text NOT NULL,
    due_ms   integer NOT NULL,
    hash     integer NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    pos_tx   integer NOT NULL DEFAULT 0,
    pos_off  integer NOT NULL DEFAULT 0,
    taken    integer NOT NULL DEFAULT 0,
    uuid     text NOT NULL,
    metadata text NOT NULL,
    payload  blob
);
CREATE INDEX postbus_later_group ON postbus_later (topic, grp, due_ms, id);
CREATE INDEX postbus_later_place ON postbus_later (topic, pos_off);
CREATE INDEX postbus_later_due ON postbus_later (grp, due_ms, id);

-- +goose Down
DROP TABLE postbus_later;
DROP TABLE postbus_groups;
DROP TABLE postbus_topics;
