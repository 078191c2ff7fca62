package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
)

// migrateBatch is how many instances Migrate looks for at once.
const migrateBatch = 100

// Migrate moves the instances of a saga that have not ended from one version to another, each in a transaction of its own,
// and returns how many it has moved. The definition of the new version must be one of the Orchestrator's; that of the old
// need not be. An instance keeps its place by the names of its steps. One that has reached a step which the new version
// lacks, or whose state does not decode, or for which f returns an error, stays as it is; the errors, of the first hundred
// at most, are joined.
//
// Programs that have the old definition should not run any more, for they start new instances of it.
func Migrate[Old, New any](ctx context.Context, o *Orchestrator, saga string, from, to int, f func(old Old) (New, error)) (moved int, err error) {
	def := o.definition(saga, to)
	if def == nil {
		return 0, fmt.Errorf("%w: saga %q version %d", ErrVersion, saga, to)
	}
	if _, ok := def.codec.(jsonOf[New]); !ok || from == to {
		return 0, fmt.Errorf("saga %q: migrate from %d to %d: %w: another version, whose state is not a %T", saga, from, to, bus.ErrInvalid, *new(New))
	}
	convert := func(text string) (any, error) {
		var old Old
		if err := json.Unmarshal([]byte(text), &old); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrState, err)
		}
		fresh, err := f(old)
		return &fresh, err
	}
	var errs []error
	for last := ""; ; {
		keys, err := o.open(ctx, saga, from, last)
		if err != nil {
			return moved, errors.Join(append(errs, err)...)
		}
		for _, key := range keys {
			done, err := o.migrate(ctx, def, key, from, convert)
			if err != nil && len(errs) < migrateBatch {
				errs = append(errs, fmt.Errorf("saga %q: migrate %q: %w", saga, key, err))
			}
			if done {
				moved++
			}
			if ctx.Err() != nil {
				return moved, errors.Join(errs...)
			}
		}
		if len(keys) < migrateBatch {
			return moved, errors.Join(errs...)
		}
		last = keys[len(keys)-1]
	}
}

// open lists instances of a version that have not ended, by their keys.
func (o *Orchestrator) open(ctx context.Context, saga string, version int, after string) (keys []string, err error) {
	q := "SELECT inst FROM postbus_saga WHERE saga = ? AND version = ? AND ended_ms IS NULL AND inst > ? ORDER BY inst LIMIT ?"
	list, err := o.db.SQL().QueryContext(ctx, o.rows.dialect.Bind(q), saga, version, after, migrateBatch)
	if err != nil {
		return nil, fmt.Errorf("saga %q: migrate: %w", saga, err)
	}
	defer list.Close()
	for list.Next() {
		var key string
		if err := list.Scan(&key); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, list.Err()
}

// migrate moves one instance.
func (o *Orchestrator) migrate(ctx context.Context, def *definition, key string, from int, convert func(string) (any, error)) (bool, error) {
	moved := false
	err := o.box.Tx(ctx, func(tx *outbox.Tx) error {
		moved = false
		r, err := o.rows.find(ctx, tx, def.name, key, true)
		if err != nil || r == nil || r.version != from || Status(r.status).Ended() {
			return err
		}
		in, err := r.instance(nil)
		if err != nil {
			return err
		}
		in.def, in.version = def, def.version
		if step := in.vanished(); step != "" {
			return fmt.Errorf("%w: %q", ErrStep, step)
		}
		if in.state, err = convert(r.state); err != nil {
			return err
		}
		state, err := def.codec.encode(in.state)
		if err != nil {
			return err
		}
		in.rev++
		moved = true
		entry := Entry{Kind: Migrated, Error: fmt.Sprintf("from version %d to %d", from, def.version), State: state}
		return o.rows.update(ctx, tx, in, r.due, o.now(), []Entry{entry})
	})
	return moved && err == nil, err
}
