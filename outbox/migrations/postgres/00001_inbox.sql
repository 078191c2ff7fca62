-- +goose Up
CREATE TABLE postbus_inbox (
    grp   text COLLATE "C" NOT NULL,
    id    text COLLATE "C" NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (grp, id)
);
CREATE INDEX postbus_inbox_at ON postbus_inbox (at_ms);

-- +goose Down
DROP TABLE postbus_inbox;
