-- +goose Up
CREATE TABLE postbus_debezium (
    `offset`      bigint AUTO_INCREMENT PRIMARY KEY,
    created_at    datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    id            varchar(36) NOT NULL,
    aggregatetype varchar(255) NOT NULL,
    aggregateid   text NOT NULL,
    type          varchar(255) NOT NULL,
    payload       json,
    headers       json
) ENGINE=InnoDB CHARACTER SET utf8mb4;

-- +goose Down
DROP TABLE postbus_debezium;
