package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// In returns a publisher within tx: a *sql.Tx, a pgx.Tx or a *Tx, or what embeds a *sql.Tx as the transactions of many
// packages do. It must be one of the database of the Box; of another one, most are refused by that database.
func (b *Box) In(tx any) InTx { return InTx{b, tx} }

// InTx publishes within a transaction. It is a bus.Publisher. It may be used by as many goroutines as the transaction.
type InTx struct {
	box *Box
	tx  any
}

var _ bus.Publisher = InTx{}

// Publish writes events with one statement for all; they are there when the transaction commits, and never if it does
// not. The messages are made as by bus.Bus.Publish.
//
// An event that is invalid or cannot be encoded is an error before the transaction is used, which can go on. Publishing
// after its end is an error that matches sql.ErrTxDone or pgx.ErrTxClosed.
func (p InTx) Publish(ctx context.Context, events ...bus.Event) error {
	_, err := p.publish(ctx, events)
	return err
}

func (p InTx) publish(ctx context.Context, events []bus.Event) (topics []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	tx, e, err := p.open(ctx)
	if err != nil || len(events) == 0 {
		return nil, err
	}
	var c collected
	if err := p.box.publisher.Publish(context.WithValue(ctx, collectedKey{}, &c), events...); err != nil {
		return nil, err
	}
	if p.box.direct == nil {
		var all []transport.Message
		for i, topic := range c.topics {
			all = wrap(all, topic, c.msgs[i])
		}
		c.topics, c.msgs = []string{p.box.cfg.Name}, [][]transport.Message{all}
	}
	for i, topic := range c.topics {
		if err := e.PublishTx(ctx, tx, topic, c.msgs[i]); err != nil {
			return nil, p.explain(err)
		}
	}
	if p.box.direct == nil {
		p.box.expect(ctx)
	}
	return c.topics, nil
}

// Cancel removes an event that was published with bus.After or bus.At, by the id of its message (bus.WithID gives it one),
// when the transaction commits. It reports whether the event still waited; one that is due may be on its way.
func (p InTx) Cancel(ctx context.Context, id string) (bool, error) {
	tx, e, err := p.open(ctx)
	if err != nil {
		return false, err
	}
	found, err := e.Cancel(ctx, tx, id)
	if err != nil {
		return false, fmt.Errorf("outbox: %w", err)
	}
	return found, nil
}

// Cancel is InTx.Cancel at once.
func (b *Box) Cancel(ctx context.Context, id string) (bool, error) {
	if err := b.Prepare(ctx); err != nil {
		return false, err
	}
	e, err := b.engine(ctx)
	if err != nil {
		return false, err
	}
	found, err := e.Cancel(ctx, nil, id)
	if err != nil {
		return false, fmt.Errorf("outbox: %w", err)
	}
	return found, nil
}

func (p InTx) open(ctx context.Context) (store.Execer, engine, error) {
	e, err := p.box.engine(ctx)
	if err != nil {
		return nil, nil, err
	}
	tx, err := execer(p.tx, p.box.db.Dialect())
	return tx, e, err
}

// execer returns tx as what the engine writes to.
func execer(tx any, d store.Dialect) (store.Execer, error) {
	switch tx := tx.(type) {
	case *Tx:
		if tx != nil {
			return tx, nil
		}
	case *sql.Tx:
		if tx != nil {
			return tx, nil
		}
	case pgx.Tx:
		if d != store.Postgres {
			return nil, fmt.Errorf("outbox: %w: a pgx.Tx is not a transaction of the Box's database, which is of dialect %s", bus.ErrInvalid, d)
		}
		return pgxTx{tx}, nil
	case interface {
		store.Execer
		Commit() error
		Rollback() error
	}:
		return tx, nil
	}
	return nil, fmt.Errorf("outbox: %w: In takes a *sql.Tx or a pgx.Tx, and not %T(%v): outside of a transaction nothing is safe", bus.ErrInvalid, tx, tx)
}

// explain adds what an error of the database most likely means.
func (p InTx) explain(err error) error {
	for _, known := range []error{transport.ErrInvalid, transport.ErrTooLarge, transport.ErrUnsupported} {
		if errors.Is(err, known) {
			return bus.Permanent(fmt.Errorf("outbox: %w", err))
		}
	}
	for _, known := range []error{sql.ErrTxDone, pgx.ErrTxClosed, context.Canceled, context.DeadlineExceeded, transport.ErrClosed} {
		if errors.Is(err, known) {
			return fmt.Errorf("outbox: %w", err)
		}
	}
	if store.IsConflict(err) {
		return fmt.Errorf("outbox: %w", err)
	}
	return fmt.Errorf("outbox: %w (the transaction must be one of the Box's %s database)", err, p.box.db.Dialect())
}

// collected is what the publisher of a Box has made of events, by topic.
type collected struct {
	topics []string
	msgs   [][]transport.Message
}

type collectedKey struct{}

// collect is where the publisher hands its messages over: they are written together once all are there.
func collect(ctx context.Context, topic string, msgs []transport.Message) error {
	c, ok := ctx.Value(collectedKey{}).(*collected)
	if !ok {
		return fmt.Errorf("outbox: %w: a publishing middleware replaced the context", bus.ErrInvalid)
	}
	c.topics, c.msgs = append(c.topics, topic), append(c.msgs, msgs)
	return nil
}
