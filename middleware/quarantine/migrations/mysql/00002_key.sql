-- +goose Up
CREATE TABLE postbus_quarantine_key (
    line     binary(32) PRIMARY KEY,
    grp      varbinary(255) NOT NULL,
    topic    varbinary(255) NOT NULL,
    msg_key  longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    seq      bigint NOT NULL,
    draining smallint NOT NULL,
    due_ms   bigint NOT NULL
) ENGINE=InnoDB;
CREATE INDEX postbus_quarantine_key_seq ON postbus_quarantine_key (grp, seq);
CREATE INDEX postbus_quarantine_key_due ON postbus_quarantine_key (draining, due_ms);
CREATE TABLE postbus_quarantine_seq (
    grp varbinary(255) PRIMARY KEY,
    seq bigint NOT NULL
) ENGINE=InnoDB;

-- +goose Down
DROP TABLE postbus_quarantine_seq;
DROP TABLE postbus_quarantine_key;
