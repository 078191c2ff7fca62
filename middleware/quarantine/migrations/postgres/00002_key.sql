-- +goose Up
CREATE TABLE postbus_quarantine_key (
    line     bytea PRIMARY KEY,
    grp      text COLLATE "C" NOT NULL,
    topic    text COLLATE "C" NOT NULL,
    msg_key  text NOT NULL,
    seq      bigint NOT NULL,
    draining smallint NOT NULL,
    due_ms   bigint NOT NULL
);
CREATE INDEX postbus_quarantine_key_seq ON postbus_quarantine_key (grp, seq);
CREATE INDEX postbus_quarantine_key_due ON postbus_quarantine_key (draining, due_ms);
CREATE TABLE postbus_quarantine_seq (
    grp text COLLATE "C" PRIMARY KEY,
    seq bigint NOT NULL
);

-- +goose Down
DROP TABLE postbus_quarantine_seq;
DROP TABLE postbus_quarantine_key;
