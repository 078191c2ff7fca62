-- +goose Up
CREATE TABLE postbus_dedup (
    grp   varbinary(255) NOT NULL,
    id    varbinary(255) NOT NULL,
    owner varbinary(64) NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (grp, id)
) ENGINE=InnoDB;
CREATE INDEX postbus_dedup_at ON postbus_dedup (at_ms);

-- +goose Down
DROP TABLE postbus_dedup;
