package postgres

import (
	"context"

	"github.com/postbus/postbus/store"
)

// Crash ends t as the death of its process would.
func Crash(t *Transport) { t.log.Crash() }

// Listen is what a transport on db does.
func Listen(ctx context.Context, db *store.DB, ready func(), heard func(topic string)) error {
	d, err := newDialect(ctx, db, true)
	if err != nil {
		return err
	}
	return d.Listen(ctx, 0, ready, heard)
}
