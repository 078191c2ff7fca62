package saga

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/saga/internal/drive"
	"github.com/postbus/postbus/transport"
)

func init() {
	drive.Of = func(orchestrator any, opts drive.Options) drive.Driver {
		o := orchestrator.(*Orchestrator)
		o.clock, o.crash, o.grace = opts.Clock, opts.Crash, 0
		return driver{o}
	}
	drive.Prepare = prepare
	drive.Replay = func(definition, entries any) error {
		return replay(definition.(Saga).define(), entries.([]Entry))
	}
}

type driver struct{ o *Orchestrator }

func (d driver) Groups(e bus.Event) (groups []string) {
	ev := schemaOf(e)
	for saga, versions := range d.o.defs {
		takes := d.o.startsOn(saga, ev)
		for _, def := range versions {
			for _, l := range def.leaves {
				takes = takes || l.reply(ev) != nil
			}
		}
		if takes {
			groups = append(groups, groupPrefix+saga)
		}
	}
	slices.Sort(groups)
	return groups
}

func schemaOf(e bus.Event) schema {
	ev := schema{e.EventName(), 1}
	if v, ok := e.(bus.Versioned); ok {
		ev.version = v.EventVersion()
	}
	return ev
}

func (d driver) Handle(ctx context.Context, group string, m *transport.Message, attempt int, e bus.Event) error {
	ctx = bus.WithDelivery(ctx, bus.NewDelivery(m, bus.TopicOf(m.Name), group, attempt))
	return d.o.handle(ctx, strings.TrimPrefix(group, groupPrefix), schemaOf(e), e)
}

func (d driver) Due(ctx context.Context) (bool, error) {
	if did, err := d.o.requested(ctx); did || err != nil {
		return did, err
	}
	claims, _, err := d.o.claim(ctx, d.o.cfg.Workers)
	d.o.at("claimed")
	for _, c := range claims {
		if err == nil {
			err = d.o.advance(ctx, c.saga, c.key, c.rev)
		}
	}
	return len(claims) > 0, err
}

func (d driver) Next(ctx context.Context) (int64, error) {
	var due sql.NullInt64
	err := d.o.db.SQL().QueryRowContext(ctx, "SELECT MIN(due_ms) FROM postbus_saga").Scan(&due)
	return due.Int64, err
}
