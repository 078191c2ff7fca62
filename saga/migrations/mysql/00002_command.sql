-- +goose Up
CREATE TABLE postbus_saga_command (
    id       varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    saga     varbinary(255) NOT NULL,
    inst     varbinary(255) NOT NULL,
    command  varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    until_ms bigint NOT NULL,
    answer   longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
) ENGINE=InnoDB;

-- +goose Down
DROP TABLE postbus_saga_command;
