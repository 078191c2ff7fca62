-- +goose Up
CREATE TABLE postbus_quarantine (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    ident       BLOB NOT NULL,
    status      INTEGER NOT NULL,
    grp         TEXT NOT NULL,
    topic       TEXT NOT NULL,
    event       TEXT NOT NULL,
    fp          TEXT NOT NULL,
    line        BLOB,
    first_ms    INTEGER NOT NULL,
    last_ms     INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    replays     INTEGER NOT NULL,
    claim       TEXT NOT NULL,
    claim_ms    INTEGER NOT NULL,
    msg_id      TEXT NOT NULL,
    msg_key     TEXT NOT NULL,
    headers     TEXT NOT NULL,
    errors      TEXT NOT NULL,
    detail      TEXT NOT NULL,
    new_headers TEXT,
    new_body    INTEGER NOT NULL,
    payload     BLOB NOT NULL,
    new_payload BLOB
);
CREATE UNIQUE INDEX postbus_quarantine_ident ON postbus_quarantine (ident);
CREATE INDEX postbus_quarantine_last ON postbus_quarantine (status, last_ms, id);
CREATE INDEX postbus_quarantine_grp ON postbus_quarantine (grp, status, last_ms, id);
CREATE INDEX postbus_quarantine_event ON postbus_quarantine (event, status, last_ms, id);
CREATE INDEX postbus_quarantine_both ON postbus_quarantine (grp, event, status, last_ms, id);
CREATE INDEX postbus_quarantine_fp ON postbus_quarantine (fp, status, last_ms, id);
CREATE INDEX postbus_quarantine_line ON postbus_quarantine (line, id) WHERE line IS NOT NULL;
CREATE TABLE postbus_quarantine_kind (
    fp       TEXT PRIMARY KEY,
    grp      TEXT NOT NULL,
    event    TEXT NOT NULL,
    pattern  TEXT NOT NULL,
    sample   TEXT NOT NULL,
    n        INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL
);
CREATE INDEX postbus_quarantine_kind_n ON postbus_quarantine_kind (n);
CREATE INDEX postbus_quarantine_kind_grp ON postbus_quarantine_kind (grp, event, n);

-- +goose Down
DROP TABLE postbus_quarantine_kind;
DROP TABLE postbus_quarantine;
