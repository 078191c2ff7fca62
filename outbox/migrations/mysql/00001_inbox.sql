-- +goose Up
CREATE TABLE postbus_inbox (
    grp   varbinary(255) NOT NULL,
    id    varbinary(255) NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (grp, id)
) ENGINE=InnoDB;
CREATE INDEX postbus_inbox_at ON postbus_inbox (at_ms);

-- +goose Down
DROP TABLE postbus_inbox;
