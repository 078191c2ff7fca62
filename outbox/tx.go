package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/store"
)

// Tx is a transaction of the Box's database. Its methods may be called concurrently, as those of *sql.Tx.
//
// A statement that failed makes the whole transaction fail, also if its error is not returned: PostgreSQL has it so, and
// on the others half of the work would be committed. Where a failure is part of the plan, Savepoint bounds it.
type Tx struct {
	box *Box
	sql *sql.Tx

	mu     sync.Mutex
	failed error // the first statement that failed, and that no savepoint has undone
	topics []string
	saves  int
}

// ExecContext is that of *sql.Tx.
func (t *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	res, err := t.sql.ExecContext(ctx, query, args...)
	t.note(err)
	return res, err
}

// QueryContext is that of *sql.Tx.
func (t *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := t.sql.QueryContext(ctx, query, args...)
	t.note(err)
	return rows, err
}

// QueryRowContext is that of *sql.Tx.
func (t *Tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	row := t.sql.QueryRowContext(ctx, query, args...)
	t.note(row.Err())
	return row
}

// Publish publishes within the transaction; see InTx.Publish.
func (t *Tx) Publish(ctx context.Context, events ...bus.Event) error {
	topics, err := t.box.In(t).publish(ctx, events)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, topic := range topics {
		if !slices.Contains(t.topics, topic) {
			t.topics = append(t.topics, topic)
		}
	}
	return err
}

var _ bus.Publisher = (*Tx)(nil)

// Cancel removes an event that waits for its time; see InTx.Cancel.
func (t *Tx) Cancel(ctx context.Context, id string) (bool, error) { return t.box.In(t).Cancel(ctx, id) }

// Dialect returns that of the database, whose Bind writes queries for it.
func (t *Tx) Dialect() store.Dialect { return t.box.db.Dialect() }

// SQL returns the transaction itself, for packages that need one. It must be neither committed nor rolled back. What
// fails in it past the Tx is not known to the Tx.
func (t *Tx) SQL() *sql.Tx { return t.sql }

// Savepoint runs f. If it, or a statement in it, fails, what was done since is undone, and the transaction can go on; the
// error says why. What f has published is undone, too.
func (t *Tx) Savepoint(ctx context.Context, f func() error) error {
	t.mu.Lock()
	if err := t.failed; err != nil {
		t.mu.Unlock()
		return fmt.Errorf("outbox: a statement failed before: %w", err)
	}
	t.saves++
	name := fmt.Sprintf("postbus_%d", t.saves)
	t.mu.Unlock()
	if _, err := t.ExecContext(ctx, "SAVEPOINT "+name); err != nil {
		return err
	}
	err := f()
	if err == nil {
		t.mu.Lock()
		err = t.failed
		t.mu.Unlock()
	}
	if err == nil {
		_, err := t.ExecContext(ctx, "RELEASE SAVEPOINT "+name)
		return err
	}
	if _, undo := t.sql.ExecContext(ctx, "ROLLBACK TO SAVEPOINT "+name); undo != nil {
		t.note(undo)
		return errors.Join(err, undo)
	}
	t.mu.Lock()
	t.failed = nil
	t.mu.Unlock()
	return err
}

// Err returns why the transaction cannot commit: the first statement that failed, and that no savepoint has undone; or nil.
func (t *Tx) Err() error { return t.failure() }

func (t *Tx) note(err error) {
	if err == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil {
		t.failed = err
	}
}

func (t *Tx) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// Tx runs f in a transaction and commits it, and wakes at once who waits for the events published in it. It is rolled
// back if f returns an error or panics. After a deadlock or a serialization failure f runs again, in a new transaction, a
// few times.
func (b *Box) Tx(ctx context.Context, f func(tx *Tx) error) error {
	if err := b.Prepare(ctx); err != nil {
		return err
	}
	return b.run(ctx, f)
}

const (
	// tries is how often a transaction is run that loses against others.
	tries = 6
	// retryPause is the first pause between them, at most; it doubles.
	retryPause = 4 * time.Millisecond
	// turnPatience is how long a transaction waits for its turn among those of the Box, on SQLite.
	turnPatience = 10 * time.Second
)

// run runs f in transactions until one is not lost against others.
func (b *Box) run(ctx context.Context, f func(tx *Tx) error) error {
	for try, pause := 1, retryPause; ; try, pause = try+1, 2*pause {
		conflict, err := b.once(ctx, f)
		if err == nil || !conflict || try == tries {
			return err
		}
		select {
		case <-time.After(rand.N(pause)):
		case <-ctx.Done():
			return err
		}
	}
}

// once runs f in a transaction. It reports whether an error is of the kind that another try can mend.
func (b *Box) once(ctx context.Context, f func(tx *Tx) error) (conflict bool, err error) {
	if b.writing != nil {
		patience := time.NewTimer(turnPatience)
		defer patience.Stop()
		select {
		case b.writing <- struct{}{}:
			defer func() { <-b.writing }()
		case <-patience.C: // SQLite decides
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	stx, err := b.db.SQL().BeginTx(ctx, nil)
	if err != nil {
		return store.IsConflict(err), fmt.Errorf("outbox: begin: %w", err)
	}
	defer func() { _ = stx.Rollback() }() // also after a panic; nothing after a commit
	tx := &Tx{box: b, sql: stx}
	if err := f(tx); err != nil {
		return store.IsConflict(err) || store.IsConflict(tx.failure()), err
	}
	if err := tx.failure(); err != nil {
		return store.IsConflict(err), fmt.Errorf("outbox: rolled back, for a statement failed whose error was not returned: %w", err)
	}
	if err := stx.Commit(); err != nil {
		return store.IsConflict(err), fmt.Errorf("outbox: commit: %w", err)
	}
	if len(tx.topics) > 0 {
		b.wake(tx.topics)
	}
	return false, nil
}
