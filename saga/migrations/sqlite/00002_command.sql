-- +goose Up
CREATE TABLE postbus_saga_command (
    id       TEXT NOT NULL PRIMARY KEY,
    saga     TEXT NOT NULL,
    inst     TEXT NOT NULL,
    command  TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    answer   TEXT
);

-- +goose Down
DROP TABLE postbus_saga_command;
