-- +goose Up
CREATE TABLE postbus_recurring (
    name    text COLLATE "C" PRIMARY KEY,
    spec    text NOT NULL,
    next_ms bigint NOT NULL
);

-- +goose Down
DROP TABLE postbus_recurring;
