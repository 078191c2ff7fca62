-- +goose Up
CREATE TABLE postbus_saga (
    saga        text COLLATE "C" NOT NULL,
    inst        text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    version     integer NOT NULL,
    status      text COLLATE "C" NOT NULL,
    step        text COLLATE "C" NOT NULL,
    rev         bigint NOT NULL,
    claims      integer NOT NULL,
    state       text NOT NULL,
    progress    text NOT NULL,
    error       text NOT NULL,
    origin      text NOT NULL,
    due_ms      bigint,
    started_ms  bigint NOT NULL,
    ended_ms    bigint,
    PRIMARY KEY (saga, inst)
);
CREATE INDEX postbus_saga_due ON postbus_saga (saga, version, due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX postbus_saga_open ON postbus_saga (saga, status, started_ms) WHERE ended_ms IS NULL;
CREATE INDEX postbus_saga_ended ON postbus_saga (ended_ms) WHERE ended_ms IS NOT NULL;
CREATE TABLE postbus_saga_journal (
    saga    text COLLATE "C" NOT NULL,
    inst    text COLLATE "C" NOT NULL,
    rev     bigint NOT NULL,
    at_ms   bigint NOT NULL,
    entries text NOT NULL,
    PRIMARY KEY (saga, inst, rev)
);

-- +goose Down
DROP TABLE postbus_saga_journal;
DROP TABLE postbus_saga;
