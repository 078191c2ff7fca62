-- +goose Up
CREATE TABLE postbus_members (
    topic      text COLLATE "C" NOT NULL,
    grp        text COLLATE "C" NOT NULL,
    owner      text COLLATE "C" NOT NULL,
    expires_ms bigint NOT NULL,
    PRIMARY KEY (topic, grp, owner)
);

-- +goose Down
DROP TABLE postbus_members;
