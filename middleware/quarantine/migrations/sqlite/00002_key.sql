-- +goose Up
CREATE TABLE postbus_quarantine_key (
    line     BLOB PRIMARY KEY,
    grp      TEXT NOT NULL,
    topic    TEXT NOT NULL,
    msg_key  TEXT NOT NULL,
    seq      INTEGER NOT NULL,
    draining INTEGER NOT NULL,
    due_ms   INTEGER NOT NULL
);
CREATE INDEX postbus_quarantine_key_seq ON postbus_quarantine_key (grp, seq);
CREATE INDEX postbus_quarantine_key_due ON postbus_quarantine_key (draining, due_ms);
CREATE TABLE postbus_quarantine_seq (
    grp TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
);

-- +goose Down
DROP TABLE postbus_quarantine_seq;
DROP TABLE postbus_quarantine_key;
