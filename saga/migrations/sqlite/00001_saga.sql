-- +goose Up
CREATE TABLE postbus_saga (
    saga        TEXT NOT NULL,
    inst        TEXT NOT NULL,
    id          TEXT NOT NULL,
    version     INTEGER NOT NULL,
    status      TEXT NOT NULL,
    step        TEXT NOT NULL,
    rev         INTEGER NOT NULL,
    claims      INTEGER NOT NULL,
    state       TEXT NOT NULL,
    progress    TEXT NOT NULL,
    error       TEXT NOT NULL,
    origin      TEXT NOT NULL,
    due_ms      INTEGER,
    started_ms  INTEGER NOT NULL,
    ended_ms    INTEGER,
    PRIMARY KEY (saga, inst)
);
CREATE INDEX postbus_saga_due ON postbus_saga (saga, version, due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX postbus_saga_open ON postbus_saga (saga, status, started_ms) WHERE ended_ms IS NULL;
CREATE INDEX postbus_saga_ended ON postbus_saga (ended_ms) WHERE ended_ms IS NOT NULL;
CREATE TABLE postbus_saga_journal (
    saga    TEXT NOT NULL,
    inst    TEXT NOT NULL,
    rev     INTEGER NOT NULL,
    at_ms   INTEGER NOT NULL,
    entries TEXT NOT NULL,
    PRIMARY KEY (saga, inst, rev)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE postbus_saga_journal;
DROP TABLE postbus_saga;
