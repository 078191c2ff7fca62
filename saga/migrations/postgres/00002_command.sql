-- +goose Up
CREATE TABLE postbus_saga_command (
    id       text COLLATE "C" NOT NULL PRIMARY KEY,
    saga     text COLLATE "C" NOT NULL,
    inst     text COLLATE "C" NOT NULL,
    command  text COLLATE "C" NOT NULL,
    until_ms bigint NOT NULL,
    answer   text
);

-- +goose Down
DROP TABLE postbus_saga_command;
