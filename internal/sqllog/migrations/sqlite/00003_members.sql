-- +goose Up
CREATE TABLE postbus_members (
    topic      text NOT NULL,
    grp        text NOT NULL,
    owner      text NOT NULL,
    expires_ms integer NOT NULL,
    PRIMARY KEY (topic, grp, owner)
);

-- +goose Down
DROP TABLE postbus_members;
