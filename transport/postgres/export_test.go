package postgres

import (
	"context"
	"time"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/store"
)

// Crash ends t as the death of its process would.
func Crash(t *Transport) { t.log.Crash() }

// Class is what is known after an error.
func Class(err error) sqllog.Class { return (&dialect{}).Class(err) }

// Listen is what a transport on db does.
func Listen(ctx context.Context, db *store.DB, ready func(), heard func(topic string)) error {
	d, err := newDialect(ctx, db, true)
	if err != nil {
		return err
	}
	return d.Listen(ctx, 0, ready, heard)
}

// ByNotices makes a transport whose groups look for messages when they hear a notice, and not before an hour is over.
func ByNotices(ctx context.Context, db *store.DB) (*Transport, error) {
	driver := logDriver
	driver.New = func(ctx context.Context, db *store.DB, listen bool) (sqllog.Dialect, error) {
		d, err := newDialect(ctx, db, listen)
		return prompt{d}, err
	}
	l, err := driver.Use(ctx, db, sqllog.Options{Poll: time.Hour, Listen: true})
	if err != nil {
		return nil, err
	}
	return &Transport{l}, nil
}

// prompt has nobody look again soon.
type prompt struct{ sqllog.Dialect }

func (prompt) Prompt() bool { return true }
