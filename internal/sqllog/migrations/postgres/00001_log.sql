-- +goose Up
CREATE TABLE postbus_topics (
    topic    text COLLATE "C" PRIMARY KEY,
    messages text NOT NULL,
    offsets  text NOT NULL,
    origin   text NOT NULL DEFAULT ''
);
CREATE TABLE postbus_groups (
    topic      text COLLATE "C" NOT NULL,
    grp        text COLLATE "C" NOT NULL,
    part       int NOT NULL,
    parts      int NOT NULL,
    owner      text NOT NULL DEFAULT '',
    token      bigint NOT NULL DEFAULT 0,
    expires_ms bigint NOT NULL DEFAULT 0,
    state      bytea NOT NULL,
    PRIMARY KEY (topic, grp, part)
) WITH (fillfactor = 50);
CREATE TABLE postbus_later (
    id       bigserial PRIMARY KEY,
    topic    text COLLATE "C" NOT NULL,
    grp      text COLLATE "C" NOT NULL,
    due_ms   bigint NOT NULL,
    hash     int NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    pos_tx   bigint NOT NULL DEFAULT 0,
    pos_off  bigint NOT NULL DEFAULT 0,
    taken    bigint NOT NULL DEFAULT 0,
    uuid     text NOT NULL,
    metadata text NOT NULL,
    payload  bytea
);
CREATE INDEX postbus_later_group ON postbus_later (topic, grp, due_ms, id);
CREATE INDEX postbus_later_place ON postbus_later (topic, pos_off);
CREATE INDEX postbus_later_due ON postbus_later (grp, due_ms, id);

-- +goose Down
DROP TABLE postbus_later;
DROP TABLE postbus_groups;
DROP TABLE postbus_topics;
