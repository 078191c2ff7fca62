-- +goose Up
CREATE TABLE postbus_topics (
    topic    varbinary(255) PRIMARY KEY,
    messages varchar(255) NOT NULL,
    offsets  varchar(255) NOT NULL,
    origin   varchar(255) NOT NULL DEFAULT ''
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ENGINE=InnoDB;
CREATE TABLE postbus_groups (
    topic      varbinary(255) NOT NULL,
    grp        varbinary(255) NOT NULL,
    part       int NOT NULL,
    parts      int NOT NULL,
    owner      varchar(255) NOT NULL DEFAULT '',
    token      bigint NOT NULL DEFAULT 0,
    expires_ms bigint NOT NULL DEFAULT 0,
    state      longblob NOT NULL,
    PRIMARY KEY (topic, grp, part)
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ENGINE=InnoDB;
CREATE TABLE postbus_later (
    id       bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    topic    varbinary(255) NOT NULL,
    grp      varbinary(255) NOT NULL,
    due_ms   bigint NOT NULL,
    hash     int NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    pos_tx   bigint NOT NULL DEFAULT 0,
    pos_off  bigint NOT NULL DEFAULT 0,
    taken    bigint NOT NULL DEFAULT 0,
    uuid     varchar(255) NOT NULL,
    metadata longtext NOT NULL,
    payload  longblob
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ENGINE=InnoDB;
CREATE INDEX postbus_later_group ON postbus_later (topic, grp, due_ms, id);
CREATE INDEX postbus_later_place ON postbus_later (topic, pos_off);
CREATE INDEX postbus_later_due ON postbus_later (grp, due_ms, id);

-- +goose Down
DROP TABLE postbus_later;
DROP TABLE postbus_groups;
DROP TABLE postbus_topics;
