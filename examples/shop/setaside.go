package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/postbus/postbus/examples/shop/intake"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/store"
)

// setAside is a message in quarantine, or a line that could not travel.
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

// listAside returns the first of what is set aside.
func listAside(ctx context.Context, db *store.DB) (all []setAside, err error) {
	q := quarantine.New(db, quarantine.Config{})
	entries, _, err := q.List(ctx, quarantine.Filter{}, quarantine.Page{Limit: mostShown + 1})
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		r, err := q.Show(ctx, e.ID)
		if err != nil {
			return nil, err
		}
		line, _ := strconv.Atoi(r.Message.Metadata[intake.MetadataLine])
		all = append(all, setAside{line, e.Event, e.Group, e.Key, e.Error, cut(r.Message.Payload)})
	}
	err = each(ctx, db, `select number, refused from shop_lines where refused <> '' order by number`, func(c ...any) error {
		line, err := strconv.Atoi(c[0].(string))
		all = append(all, setAside{line: line, reason: c[1].(string)})
		return err
	})
	return all, err
}

// cut keeps as much of a payload as can be shown: it may have many megabytes.
func cut(text []byte) string {
	const most = 1 << 10
	if len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(text)
}
