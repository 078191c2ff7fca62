-- +goose Up
CREATE TABLE postbus_quarantine (
    id          bigint AUTO_INCREMENT PRIMARY KEY,
    ident       binary(32) NOT NULL,
    status      smallint NOT NULL,
    grp         varbinary(255) NOT NULL,
    topic       varbinary(255) NOT NULL,
    event       varbinary(255) NOT NULL,
    fp          varchar(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    line        binary(32),
    first_ms    bigint NOT NULL,
    last_ms     bigint NOT NULL,
    attempts    integer NOT NULL,
    replays     integer NOT NULL,
    claim       varchar(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    claim_ms    bigint NOT NULL,
    msg_id      longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    msg_key     longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    headers     longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    errors      longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    detail      longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    new_headers longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    new_body    smallint NOT NULL,
    payload     longblob NOT NULL,
    new_payload longblob
) ENGINE=InnoDB;
CREATE UNIQUE INDEX postbus_quarantine_ident ON postbus_quarantine (ident);
CREATE INDEX postbus_quarantine_last ON postbus_quarantine (status, last_ms, id);
CREATE INDEX postbus_quarantine_grp ON postbus_quarantine (grp, status, last_ms, id);
CREATE INDEX postbus_quarantine_event ON postbus_quarantine (event, status, last_ms, id);
CREATE INDEX postbus_quarantine_both ON postbus_quarantine (grp, event, status, last_ms, id);
CREATE INDEX postbus_quarantine_fp ON postbus_quarantine (fp, status, last_ms, id);
CREATE INDEX postbus_quarantine_line ON postbus_quarantine (line, id);
CREATE TABLE postbus_quarantine_kind (
    fp       varchar(40) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY,
    grp      varbinary(255) NOT NULL,
    event    varbinary(255) NOT NULL,
    pattern  longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    sample   longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    n        bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms  bigint NOT NULL
) ENGINE=InnoDB;
CREATE INDEX postbus_quarantine_kind_n ON postbus_quarantine_kind (n);
CREATE INDEX postbus_quarantine_kind_grp ON postbus_quarantine_kind (grp, event, n);

-- +goose Down
DROP TABLE postbus_quarantine_kind;
DROP TABLE postbus_quarantine;
