-- +goose Up
CREATE TABLE postbus_dedup (
    grp   text NOT NULL,
    id    text NOT NULL,
    owner text NOT NULL,
    at_ms integer NOT NULL,
    PRIMARY KEY (grp, id)
);
CREATE INDEX postbus_dedup_at ON postbus_dedup (at_ms);

-- +goose Down
DROP TABLE postbus_dedup;
