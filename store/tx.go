package store

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"time"
)

const (
	// txTries is how often Tx runs a transaction that loses against others.
	txTries = 8
	// txPause is the first pause between them, at most; it doubles.
	txPause = 4 * time.Millisecond
)

// Tx runs f in a transaction and commits it; it is rolled back if f returns an error or panics. A transaction that lost
// against another (see [IsConflict]) runs again, a few times, so f must be fit to. On SQLite, which has one writer at a
// time, the transactions of one handle wait for each other here instead of asking again and again.
func (db *DB) Tx(ctx context.Context, f func(tx *sql.Tx) error) error {
	for try, pause := 1, txPause; ; try, pause = try+1, 2*pause {
		err := db.txOnce(ctx, f)
		if err == nil || try == txTries || !IsConflict(err) {
			return err
		}
		select {
		case <-time.After(rand.N(pause)):
		case <-ctx.Done():
			return err
		}
	}
}

func (db *DB) txOnce(ctx context.Context, f func(tx *sql.Tx) error) error {
	if db.dialect == SQLite {
		select {
		case db.turn <- struct{}{}:
			defer func() { <-db.turn }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	tx, err := db.sql.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // also after a panic; nothing after a commit
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}
