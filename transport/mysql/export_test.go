package mysql

import (
	"context"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/store"
)

// Crash ends t as the death of its process would.
func Crash(t *Transport) { t.log.Crash() }

// Heads makes topics, has the table of the first dropped, and returns the heads of those that are left.
func Heads(ctx context.Context, db *store.DB, topics []string, drop func(table string)) (map[string]int64, error) {
	made, err := newDialect(ctx, db, false)
	if err != nil {
		return nil, err
	}
	d := made.(*dialect)
	for i, topic := range topics {
		t := &sqllog.Topic{Name: topic}
		t.Messages, t.Offsets = sqllog.TableNames(topic, d.UpperCase())
		if err := d.Prepare(ctx, t, true); err != nil {
			return nil, err
		}
		if i == 0 {
			drop(d.Quote(t.Messages))
		}
	}
	return d.heads(ctx)
}
