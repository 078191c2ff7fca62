-- +goose Up
CREATE TABLE postbus_members (
    topic      varbinary(255) NOT NULL,
    grp        varbinary(255) NOT NULL,
    owner      varbinary(255) NOT NULL,
    expires_ms bigint NOT NULL,
    PRIMARY KEY (topic, grp, owner)
) ENGINE=InnoDB;

-- +goose Down
DROP TABLE postbus_members;
