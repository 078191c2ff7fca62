-- +goose Up
CREATE INDEX postbus_later_uuid ON postbus_later (uuid);

-- +goose Down
DROP INDEX postbus_later_uuid;
