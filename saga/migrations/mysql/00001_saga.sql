-- +goose Up
CREATE TABLE postbus_saga (
    saga        varbinary(255) NOT NULL,
    inst        varbinary(255) NOT NULL,
    id          varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version     integer NOT NULL,
    status      varchar(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    step        varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    rev         bigint NOT NULL,
    claims      integer NOT NULL,
    state       longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    progress    longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    error       longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    origin      longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    due_ms      bigint,
    started_ms  bigint NOT NULL,
    ended_ms    bigint,
    PRIMARY KEY (saga, inst)
) ENGINE=InnoDB;
CREATE INDEX postbus_saga_due ON postbus_saga (saga, version, due_ms);
CREATE INDEX postbus_saga_open ON postbus_saga (saga, status, started_ms);
CREATE INDEX postbus_saga_ended ON postbus_saga (ended_ms);
CREATE TABLE postbus_saga_journal (
    saga    varbinary(255) NOT NULL,
    inst    varbinary(255) NOT NULL,
    rev     bigint NOT NULL,
    at_ms   bigint NOT NULL,
    entries longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    PRIMARY KEY (saga, inst, rev)
) ENGINE=InnoDB;

-- +goose Down
DROP TABLE postbus_saga_journal;
DROP TABLE postbus_saga;
