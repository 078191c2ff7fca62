package saga

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/postbus/postbus/store"
)

// Instance is an instance as it stands.
type Instance struct {
	Saga, Key string
	Version   int
	Status    Status
	// Step is the name of the step in work, of which a parallel one may have several in work; empty after the end.
	Step string
	// State is the state as JSON; empty once only the tombstone is left.
	State json.RawMessage
	// Error is why it is stuck, or why it was compensated.
	Error string
	// Started and Ended are by the clock of the database. Ended is zero before the end.
	Started, Ended time.Time
	// Due is when it will be looked at if nothing happens before; zero for never.
	Due time.Time
	// ParentSaga and ParentKey name the instance whose child it is.
	ParentSaga, ParentKey string
	// CorrelationID is that of the messages that it publishes.
	CorrelationID string
}

// public returns in as others see it.
func (in *instance) public() Instance {
	i := Instance{
		Saga: in.saga, Key: in.key, Version: in.version, Status: in.status, Step: in.progress.At, Error: in.err, Started: time.UnixMilli(in.started),
		ParentSaga: in.parent.saga, ParentKey: in.parent.key, CorrelationID: in.correlation,
	}
	if i.Error == "" {
		i.Error = in.progress.Why
	}
	if in.ended > 0 {
		i.Ended = time.UnixMilli(in.ended)
	}
	if in.due > 0 {
		i.Due = time.UnixMilli(in.due)
	}
	if in.def != nil && in.state != nil {
		if state, err := in.def.codec.encode(in.state); err == nil {
			i.State = json.RawMessage(state)
		}
	}
	return i
}

// public decodes a row without its definition.
func (r *raw) public() (Instance, error) {
	in, err := r.instance(nil)
	if err != nil {
		return Instance{}, err
	}
	i := in.public()
	if i.State = nil; r.state != "" {
		i.State = json.RawMessage(r.state)
	}
	return i, nil
}

// desk is where instances are looked at.
type desk struct {
	db   *store.DB
	rows rows
}

// Get returns an instance. If there is none the error matches ErrNotFound.
func (d desk) Get(ctx context.Context, saga, key string) (Instance, error) {
	r, err := d.rows.find(ctx, d.db.SQL(), saga, key, false)
	switch {
	case err != nil:
		return Instance{}, fmt.Errorf("saga %q: get %q: %w", saga, key, err)
	case r == nil:
		return Instance{}, fmt.Errorf("%w: saga %q: key %q", ErrNotFound, saga, key)
	}
	return r.public()
}

// Filter says what List lists. Its zero value is all instances.
type Filter struct {
	Saga   string
	Status Status
	Step   string
	// Before limits to those started before that time, by the clock of the database.
	Before time.Time
	// After continues a list: it is the last instance of what came before.
	After Instance
	// Limit is how many are listed at most. Default: 100.
	Limit int
}

// List lists instances by saga and key.
func (d desk) List(ctx context.Context, f Filter) ([]Instance, error) {
	where, args := []string{"rev > 0"}, []any{}
	add := func(cond string, arg ...any) { where, args = append(where, cond), append(args, arg...) }
	if f.Saga != "" {
		add("saga = ?", f.Saga)
	}
	if f.Status != "" {
		add("status = ?", string(f.Status))
		if !f.Status.Ended() {
			add("ended_ms IS NULL")
		}
	}
	if f.Step != "" {
		add("step = ?", f.Step)
	}
	if !f.Before.IsZero() {
		add("started_ms < ?", f.Before.UnixMilli())
	}
	if f.After.Saga != "" {
		add("(saga > ? OR (saga = ? AND inst > ?))", f.After.Saga, f.After.Saga, f.After.Key)
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	q := "SELECT " + columns + " FROM postbus_saga WHERE " + strings.Join(where, " AND ") + " ORDER BY saga, inst LIMIT ?"
	list, err := d.db.SQL().QueryContext(ctx, d.rows.dialect.Bind(q), append(args, f.Limit)...)
	if err != nil {
		return nil, fmt.Errorf("saga: list: %w", err)
	}
	defer list.Close()
	var found []Instance
	for list.Next() {
		r, err := scan(list)
		if err != nil {
			return nil, fmt.Errorf("saga: list: %w", err)
		}
		i, err := r.public()
		if err != nil {
			return nil, err
		}
		found = append(found, i)
	}
	return found, list.Err()
}

// Journal returns what has happened to an instance, oldest first. It is empty if there is none, or only a tombstone.
func (d desk) Journal(ctx context.Context, saga, key string) ([]Entry, error) {
	list, err := d.db.SQL().QueryContext(ctx,
		d.rows.dialect.Bind("SELECT rev, at_ms, entries FROM postbus_saga_journal WHERE saga = ? AND inst = ? ORDER BY rev"), saga, key)
	if err != nil {
		return nil, fmt.Errorf("saga %q: journal of %q: %w", saga, key, err)
	}
	defer list.Close()
	var all []Entry
	for list.Next() {
		var rev, at int64
		var text string
		if err := list.Scan(&rev, &at, &text); err != nil {
			return nil, fmt.Errorf("saga %q: journal of %q: %w", saga, key, err)
		}
		var entries []Entry
		if err := json.Unmarshal([]byte(text), &entries); err != nil {
			return nil, fmt.Errorf("saga %q: journal of %q: %w", saga, key, err)
		}
		for _, e := range entries {
			e.Rev, e.At = rev, time.UnixMilli(at)
			all = append(all, e)
		}
	}
	return all, list.Err()
}
