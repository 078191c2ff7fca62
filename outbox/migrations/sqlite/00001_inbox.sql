-- +goose Up
CREATE TABLE postbus_inbox (
    grp   text NOT NULL,
    id    text NOT NULL,
    at_ms integer NOT NULL,
    PRIMARY KEY (grp, id)
);
CREATE INDEX postbus_inbox_at ON postbus_inbox (at_ms);

-- +goose Down
DROP TABLE postbus_inbox;
