package main

import (
	"context"
	"fmt"
	"strconv"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/examples/shop/intake"
	"github.com/postbus/postbus/examples/shop/tables"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
)

// shelf keeps the messages that cannot be handled: the shop's quarantine.
type shelf struct{ box *outbox.Box }

func newShelf(lc fx.Lifecycle, db *store.DB) middleware.Quarantine {
	tables.Create(lc, db, `create table if not exists shop_shelf (id varchar(200) primary key, number varchar(16), event text, consumer text, about text, reason text, payload text)`)
	return shelf{outbox.New(db, outbox.Config{})}
}

func (s shelf) Put(ctx context.Context, d *bus.Delivery, cause error) error {
	m, err := d.Encoded()
	if err != nil {
		return err
	}
	return s.box.Tx(ctx, func(tx *outbox.Tx) error {
		_, err := tables.Insert(ctx, tx, `shop_shelf (id, number, event, consumer, about, reason, payload)`, d.Group+"/"+m.ID, m.Metadata[intake.MetadataLine],
			m.Name, d.Group, m.Key, cause.Error(), oneLine(cut(m.Payload)))
		return err
	})
}

// setAside is a message that cannot be handled, or a line that could not travel.
type setAside struct {
	line              int // its number in the input; 0 if it is not a line
	event, group, key string
	reason, text      string
}

func (s setAside) String() string {
	if s.line == 0 {
		return fmt.Sprintf("order %s: %s was set aside by %s: %s", s.key, s.event, s.group, oneLine(s.reason))
	}
	shown := fmt.Sprintf("line %d: %s", s.line, oneLine(s.reason))
	if s.text != "" {
		shown += "\n      " + oneLine(s.text)
	}
	return shown
}

func listAside(ctx context.Context, db *store.DB) (all []setAside, err error) {
	for _, query := range []string{
		`select number, event, consumer, about, reason, payload from shop_shelf order by id`,
		`select number, '', '', '', refused, '' from shop_lines where refused <> '' order by number`,
	} {
		err := each(ctx, db, query, func(c ...any) error {
			line, _ := strconv.Atoi(c[0].(string))
			all = append(all, setAside{line, c[1].(string), c[2].(string), c[3].(string), c[4].(string), c[5].(string)})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// cut keeps as much of a payload as can be shown: it may have many megabytes.
func cut(text []byte) string {
	const most = 1 << 10
	if len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(text)
}
