package mysql

import (
	"context"
	"fmt"
	"strings"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"

	"github.com/postbus/postbus/internal/sqllog"
)

// Prepare makes the tables as watermill-sql does.
func (d *dialect) Prepare(ctx context.Context, t *sqllog.Topic, json bool) error {
	found, err := d.probe(ctx, t)
	if err == nil && !found {
		err = d.create(ctx, t, json)
	}
	if err == nil {
		d.mu.Lock()
		d.topics[t.Messages] = t.Name
		d.mu.Unlock()
	}
	return err
}

func (d *dialect) create(ctx context.Context, t *sqllog.Topic, json bool) error {
	kind := "JSON"
	if !json {
		kind = "LONGBLOB"
	}
	messages := wsql.DefaultMySQLSchema{
		GenerateMessagesTableName: func(string) string { return d.Quote(t.Messages) },
		GeneratePayloadType:       func(string) string { return kind },
	}
	offsets := wsql.DefaultMySQLOffsetsAdapter{GenerateMessagesOffsetsTableName: func(string) string { return d.Quote(t.Offsets) }}
	a, err := messages.SchemaInitializingQueries(wsql.SchemaInitializingQueriesParams{Topic: t.Name})
	if err != nil {
		return err
	}
	b, err := offsets.SchemaInitializingQueries(wsql.OffsetsSchemaInitializingQueriesParams{Topic: t.Name})
	if err != nil {
		return err
	}
	for _, q := range append(a, b...) {
		if _, err := d.db.ExecContext(ctx, q.Query, q.Args...); err != nil {
			return fmt.Errorf("make tables: %w", err)
		}
	}
	_, err = d.db.ExecContext(ctx, "INSERT IGNORE INTO postbus_topics (topic, messages, offsets) VALUES (?, ?, ?)", t.Name, t.Messages, t.Offsets)
	if err != nil {
		return err
	}
	if found, err := d.probe(ctx, t); err != nil || !found {
		return fmt.Errorf("table %s was made and is not found: %w", t.Messages, err)
	}
	return nil
}

// probe reports whether the tables are there; it is an error if they are and are not watermill-sql's.
func (d *dialect) probe(ctx context.Context, t *sqllog.Topic) (bool, error) {
	found := 0
	for _, table := range []struct {
		name    string
		columns string
	}{
		{t.Messages, "`offset`, `uuid`, `created_at`, `payload`, `metadata`"},
		{t.Offsets, "consumer_group, offset_acked, offset_consumed"},
	} {
		rows, err := d.db.QueryContext(ctx, "SELECT "+table.columns+" FROM "+d.Quote(table.name)+" WHERE 1 = 0")
		if isNumber(err, errNoSuchTable) {
			continue
		}
		if isNumber(err, errBadField) {
			err = fmt.Errorf("table %q %w: %w", table.name, sqllog.ErrForeignTable, err)
		}
		if err != nil {
			return false, err
		}
		_ = rows.Close()
		found++
	}
	if found < 2 {
		return false, nil
	}
	var kind, check string
	err := d.db.QueryRowContext(ctx, "SELECT data_type, extra FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? AND column_name = 'payload'",
		t.Messages).Scan(&kind, &check)
	switch strings.ToLower(kind) {
	case "json", "longtext": // MariaDB's JSON is text with a check
		t.JSON = true
	}
	return err == nil, err
}
