-- +goose Up
CREATE TABLE postbus_recurring (
    name    varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY,
    spec    varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    next_ms bigint NOT NULL
) ENGINE = InnoDB;

-- +goose Down
DROP TABLE postbus_recurring;
