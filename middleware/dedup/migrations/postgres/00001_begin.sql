-- +goose Up
CREATE TABLE postbus_dedup (
    grp   text COLLATE "C" NOT NULL,
    id    text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (grp, id)
);
CREATE INDEX postbus_dedup_at ON postbus_dedup (at_ms);

-- +goose Down
DROP TABLE postbus_dedup;
