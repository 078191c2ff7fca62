package postgres

import (
	"context"
	"errors"
	"fmt"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"

	"github.com/postbus/postbus/internal/sqllog"
)

// Prepare makes the tables as watermill-sql does, under its lock.
func (d *dialect) Prepare(ctx context.Context, t *sqllog.Topic, json bool) error {
	found, err := d.probe(ctx, t)
	if err != nil {
		return err
	}
	if !found {
		if err := d.create(ctx, t, json); err != nil {
			return fmt.Errorf("make tables: %w", err)
		}
		if found, err = d.probe(ctx, t); err != nil || !found {
			return fmt.Errorf("table %q was made and is not found: %w", t.Messages, err)
		}
	}
	return d.checkOrigin(ctx, t)
}

func (d *dialect) create(ctx context.Context, t *sqllog.Topic, json bool) error {
	kind := "JSON"
	if !json {
		kind = "BYTEA"
	}
	messages := wsql.DefaultPostgreSQLSchema{
		GenerateMessagesTableName: func(string) string { return d.Quote(t.Messages) },
		GeneratePayloadType:       func(string) string { return kind },
	}
	offsets := wsql.DefaultPostgreSQLOffsetsAdapter{
		GenerateMessagesOffsetsTableName: func(string) string { return d.Quote(t.Offsets) },
	}
	a, err := messages.SchemaInitializingQueries(wsql.SchemaInitializingQueriesParams{Topic: t.Name})
	if err != nil {
		return err
	}
	b, err := offsets.SchemaInitializingQueries(wsql.OffsetsSchemaInitializingQueriesParams{Topic: t.Name})
	if err != nil {
		return err
	}
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, q := range append(a, b...) {
		if _, err := tx.ExecContext(ctx, q.Query, q.Args...); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO postbus_topics (topic, messages, offsets, origin) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
		t.Name, t.Messages, t.Offsets, d.origin); err != nil {
		return err
	}
	return tx.Commit()
}

// columns are what watermill-sql's tables have, and of which type.
var columns = [2]map[string]string{
	{"offset": "bigint", "uuid": "character varying", "created_at": "timestamp without time zone", "payload": "", "metadata": "json", "transaction_id": "xid8"},
	{"consumer_group": "character varying", "offset_acked": "bigint", "last_processed_transaction_id": "xid8"},
}

// probe reports whether the tables are there; it is an error if they are and are not watermill-sql's.
func (d *dialect) probe(ctx context.Context, t *sqllog.Topic) (bool, error) {
	found := 0
	for i, table := range []string{t.Messages, t.Offsets} {
		rows, err := d.db.QueryContext(ctx, `SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a
			WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`, d.Quote(table))
		if err != nil {
			return false, err
		}
		has := map[string]string{}
		for rows.Next() {
			var name, kind string
			if err := rows.Scan(&name, &kind); err != nil {
				_ = rows.Close()
				return false, err
			}
			has[name] = kind
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return false, err
		}
		if len(has) == 0 {
			continue
		}
		found++
		for name, kind := range columns[i] {
			if has[name] == "" || kind != "" && has[name] != kind {
				return false, fmt.Errorf("table %q %w: column %q is %q", table, sqllog.ErrForeignTable, name, has[name])
			}
		}
		if i == 0 {
			switch has["payload"] {
			case "json", "jsonb":
				t.JSON = true
			case "bytea":
			default:
				return false, fmt.Errorf("table %q %w: column %q is %q, not json, jsonb or bytea", table, sqllog.ErrForeignTable, "payload", has["payload"])
			}
		}
	}
	return found == 2, nil
}
