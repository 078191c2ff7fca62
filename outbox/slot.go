package outbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/pgtail"
	"github.com/postbus/postbus/store"
)

// Errors of a Forwarder with Tail, to be matched with errors.Is.
var (
	// ErrWALLevel: the server does not write what logical replication needs; the error says how to set it.
	ErrWALLevel = pgtail.ErrWALLevel
	// ErrSlotBusy: another process reads the replication slot. A Forwarder waits for it.
	ErrSlotBusy = pgtail.ErrBusy
	// ErrSlotForeign: the publication or the replication slot is somebody else's.
	ErrSlotForeign = pgtail.ErrForeign
)

// wal returns the write-ahead log of the outbox.
func (b *Box) wal(ctx context.Context) (*pgtail.Tail, *tailTable, error) {
	table, name := debeziumTail(b.db.SQL()), debeziumTable
	if b.cfg.Layout != Debezium {
		var err error
		if table, err = logTable(ctx, b.db.SQL(), b.cfg.Name); err != nil {
			return nil, nil, fmt.Errorf("outbox: tail: %w", err)
		}
		name = b.cfg.Name
	}
	var database string
	if err := b.db.SQL().QueryRowContext(ctx, "SELECT current_database()").Scan(&database); err != nil {
		return nil, nil, fmt.Errorf("outbox: tail: %w", err)
	}
	wal, err := pgtail.New(b.db.SQL(), pgtail.Config{Name: slotName(database, name), Table: table.name, Logger: b.cfg.Logger})
	if err != nil {
		return nil, nil, fmt.Errorf("outbox: tail: %w", err)
	}
	return wal, table, nil
}

// slotName tells the outboxes of a server apart: its databases share the names of slots. What is legible of the name comes
// first.
func slotName(database, name string) string {
	h := sha256.Sum256([]byte(database + "\x00" + name))
	legible := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, name[:min(len(name), 30)])
	return legible + "_" + hex.EncodeToString(h[:8])
}

func (b *Box) startTail(ctx context.Context, max int, settle func(context.Context) error) (*tail, error) {
	wal, table, err := b.wal(ctx)
	if err != nil {
		return nil, err
	}
	if err := wal.Prepare(ctx); err != nil {
		return nil, fmt.Errorf("outbox: tail: %w", err)
	}
	return newTail(wal, table, max, b.cfg.Logger, settle), nil
}

// DropTail removes the publication and the replication slot that a Forwarder with Tail has made, if they are there: the
// server keeps its write-ahead log for a slot that nobody reads. While a Forwarder reads it the error matches ErrSlotBusy.
func (b *Box) DropTail(ctx context.Context) error {
	if err := b.Prepare(ctx); err != nil {
		return err
	}
	if b.db.Dialect() != store.Postgres {
		return fmt.Errorf("outbox: drop tail: %w: the Box is on %s, and only PostgreSQL has slots", bus.ErrInvalid, b.db.Dialect())
	}
	if b.direct != nil {
		return fmt.Errorf("outbox: drop tail: %w: %w", bus.ErrInvalid, errDirect)
	}
	wal, _, err := b.wal(ctx)
	if err != nil {
		return err
	}
	if err := wal.Drop(ctx); err != nil {
		return fmt.Errorf("outbox: drop tail: %w", err)
	}
	return nil
}

var errDirect = errors.New("the Box has a Transport: its events go straight to their topics, and there is nothing to forward")
