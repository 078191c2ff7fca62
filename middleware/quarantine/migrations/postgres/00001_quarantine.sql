-- +goose Up
CREATE TABLE postbus_quarantine (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ident       bytea NOT NULL,
    status      smallint NOT NULL,
    grp         text COLLATE "C" NOT NULL,
    topic       text COLLATE "C" NOT NULL,
    event       text COLLATE "C" NOT NULL,
    fp          text COLLATE "C" NOT NULL,
    line        bytea,
    first_ms    bigint NOT NULL,
    last_ms     bigint NOT NULL,
    attempts    integer NOT NULL,
    replays     integer NOT NULL,
    claim       text COLLATE "C" NOT NULL,
    claim_ms    bigint NOT NULL,
    msg_id      text NOT NULL,
    msg_key     text NOT NULL,
    headers     text NOT NULL,
    errors      text NOT NULL,
    detail      text NOT NULL,
    new_headers text,
    new_body    smallint NOT NULL,
    payload     bytea NOT NULL,
    new_payload bytea
);
CREATE UNIQUE INDEX postbus_quarantine_ident ON postbus_quarantine (ident);
CREATE INDEX postbus_quarantine_last ON postbus_quarantine (status, last_ms, id);
CREATE INDEX postbus_quarantine_grp ON postbus_quarantine (grp, status, last_ms, id);
CREATE INDEX postbus_quarantine_event ON postbus_quarantine (event, status, last_ms, id);
CREATE INDEX postbus_quarantine_both ON postbus_quarantine (grp, event, status, last_ms, id);
CREATE INDEX postbus_quarantine_fp ON postbus_quarantine (fp, status, last_ms, id);
CREATE INDEX postbus_quarantine_line ON postbus_quarantine (line, id) WHERE line IS NOT NULL;
CREATE TABLE postbus_quarantine_kind (
    fp       text COLLATE "C" PRIMARY KEY,
    grp      text COLLATE "C" NOT NULL,
    event    text COLLATE "C" NOT NULL,
    pattern  text NOT NULL,
    sample   text NOT NULL,
    n        bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms  bigint NOT NULL
);
CREATE INDEX postbus_quarantine_kind_n ON postbus_quarantine_kind (n);
CREATE INDEX postbus_quarantine_kind_grp ON postbus_quarantine_kind (grp, event, n);

-- +goose Down
DROP TABLE postbus_quarantine_kind;
DROP TABLE postbus_quarantine;
