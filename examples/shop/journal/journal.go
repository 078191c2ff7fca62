// Package journal keeps the books of the shop's modules in an SQLite file, so that the shop can be killed at any moment.
//
// A module changes its book in memory and puts the entry here, in one go. Before anything that follows from it leaves
// the module, as an event or as the acknowledgement of the message that caused it, the journal is on disk: see
// [Journal.Publisher] and [Journal.Middleware]. What a killed shop had not written, nobody has heard of, and the message
// that caused it comes again.
package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/store"
)

// Journal is the books of one shop. A nil Journal keeps nothing. Its methods may be called concurrently.
type Journal struct {
	db   *store.DB
	wake chan struct{}
	done chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	pending []entry
	batch   *batch // that pending will be
	writing *batch
	failed  error // for good: what follows would rest on what was not written
	closed  bool
}

type entry struct {
	book, id string
	value    []byte
}

// batch is one transaction; done is closed when it has ended.
type batch struct{ done chan struct{} }

var errClosed = errors.New("journal: closed")

// Open opens the journal in a database of SQLite.
func Open(ctx context.Context, url string) (*Journal, error) {
	db, err := store.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	_, err = db.SQL().ExecContext(ctx, `CREATE TABLE IF NOT EXISTS shop_books (
		book TEXT NOT NULL, id TEXT NOT NULL, entry BLOB NOT NULL, PRIMARY KEY (book, id)) WITHOUT ROWID`)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), db.Close())
	}
	j := &Journal{db: db, wake: make(chan struct{}, 1), done: make(chan struct{}), batch: &batch{make(chan struct{})}}
	go j.write()
	return j, nil
}

// Put keeps value, as JSON, in place of what the book says about id. It does not wait. The caller holds the lock of its
// book, so that the entries of one id are in the order of their changes.
func (j *Journal) Put(book, id string, value any) {
	if j == nil {
		return
	}
	b, err := json.Marshal(value)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil && j.failed == nil {
		j.failed = fmt.Errorf("journal: %s of %q: %w", book, id, err)
	}
	if j.failed != nil || j.closed {
		return // Sync tells
	}
	j.pending = append(j.pending, entry{book, id, b})
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Sync returns when all that was put is on disk. After an error, it returns that for ever.
func (j *Journal) Sync(ctx context.Context) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	b := j.writing
	if len(j.pending) > 0 {
		b = j.batch
	}
	failed, closed := j.failed, j.closed
	j.mu.Unlock()
	switch {
	case failed != nil:
		return failed
	case closed:
		return errClosed
	case b == nil:
		return nil
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// write writes what was put, all that is there in one transaction.
func (j *Journal) write() {
	defer close(j.done)
	for range j.wake {
		j.mu.Lock()
		entries, b, failed := j.pending, j.batch, j.failed
		j.pending, j.batch, j.writing = nil, &batch{make(chan struct{})}, b
		j.mu.Unlock()
		var err error
		if failed == nil {
			err = j.commit(entries)
		}
		j.mu.Lock()
		if err != nil {
			j.failed = fmt.Errorf("journal: %w", err)
		}
		j.writing = nil
		j.mu.Unlock()
		close(b.done)
	}
}

func (j *Journal) commit(entries []entry) error {
	ctx := context.Background() // busy_timeout bounds it
	tx, err := j.db.SQL().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	put, err := tx.PrepareContext(ctx, "INSERT INTO shop_books (book, id, entry) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET entry = excluded.entry")
	if err != nil {
		return err
	}
	defer put.Close()
	for _, e := range entries {
		if _, err := put.ExecContext(ctx, e.book, e.id, e.value); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// Load calls each with all entries of a book.
func Load[V any](j *Journal, book string, each func(id string, value V)) error {
	if j == nil {
		return nil
	}
	rows, err := j.db.SQL().Query("SELECT id, entry FROM shop_books WHERE book = ? ORDER BY id", book)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var raw sql.RawBytes
		var v V
		if err := rows.Scan(&id, &raw); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("journal: %s of %q: %w", book, id, err)
		}
		each(id, v)
	}
	return rows.Err()
}

// Publisher returns to, held back until the journal is on disk.
func (j *Journal) Publisher(to bus.Publisher) bus.Publisher { return publisher{j, to} }

type publisher struct {
	j  *Journal
	to bus.Publisher
}

func (p publisher) Publish(ctx context.Context, events ...bus.Event) error {
	if err := p.j.Sync(ctx); err != nil {
		return err
	}
	return p.to.Publish(ctx, events...)
}

// Middleware returns from a handler when the journal is on disk.
func (j *Journal) Middleware(next bus.Handler) bus.Handler {
	return func(ctx context.Context, d *bus.Delivery) error {
		return errors.Join(next(ctx, d), j.Sync(ctx))
	}
}

// Close writes what was put, and closes the database.
func (j *Journal) Close() error {
	if j == nil {
		return nil
	}
	err := j.Sync(context.Background())
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	close(j.wake)
	j.mu.Unlock()
	<-j.done
	return errors.Join(err, j.db.Close())
}
