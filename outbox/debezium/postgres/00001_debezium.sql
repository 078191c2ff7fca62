-- +goose Up
CREATE TABLE postbus_debezium (
    "offset"       bigserial PRIMARY KEY,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    created_at     timestamp NOT NULL DEFAULT (clock_timestamp() AT TIME ZONE 'UTC'),
    id             varchar(36) NOT NULL,
    aggregatetype  varchar(255) NOT NULL,
    aggregateid    text NOT NULL,
    type           varchar(255) NOT NULL,
    payload        jsonb,
    headers        jsonb
);
CREATE INDEX postbus_debezium_order ON postbus_debezium (transaction_id, "offset");

-- +goose Down
DROP TABLE postbus_debezium;
