-- +goose Up
CREATE TABLE postbus_recurring (
    name    TEXT PRIMARY KEY,
    spec    TEXT NOT NULL,
    next_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- +goose Down
DROP TABLE postbus_recurring;
