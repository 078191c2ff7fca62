package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/postbus/postbus/middleware/quarantine"
)

func quarantineListCommand() *command {
	var s selection
	var page quarantine.Page
	var count bool
	return &command{
		name: "quarantine list", uses: usesStore | usesJSON,
		short: "List messages that could not be handled, the one that failed last first",
		long:  `Where there are many, "postbus quarantine kinds" shows what is wrong.`,
		examples: []string{
			"postbus quarantine list --store postgres://shop@db/shop",
			"postbus quarantine list --group billing --since 2h",
			"postbus quarantine list --kind 0f6c2b9d8e7a1345 --count",
			"postbus quarantine list --json --limit 0 | jq -r .message_id",
		},
		flags: func(f *flag.FlagSet) {
			s.flags(f)
			f.IntVar(&page.Limit, "limit", 50, "at most this `NUMBER`; 0 is no limit")
			f.StringVar(&page.From, "from", "", "go on with this `PAGE`, as the end of the one before says")
			f.BoolVar(&count, "count", false, "print how many there are, and nothing else")
		},
		run: func(ctx context.Context, c *call) error {
			filter, err := s.filter(nil)
			if err != nil {
				return err
			}
			q, err := c.openQuarantine(ctx, nil)
			if err != nil {
				return err
			}
			defer q.Close()
			if count {
				n, err := q.Count(ctx, filter)
				if err != nil {
					return err
				}
				return c.count("count", "%d", n)
			}
			return c.listEntries(ctx, q, filter, page)
		},
	}
}

func (c *call) listEntries(ctx context.Context, q *quarantine.Store, filter quarantine.Filter, page quarantine.Page) error {
	t := table{}
	if !c.json {
		t = c.table("ID", "FAILED", "GROUP", "EVENT", "KEY", "ATTEMPTS", "REPLAYS", "KIND", "ERROR")
	}
	for endless := page.Limit <= 0; ; {
		list, next, err := q.List(ctx, filter, page)
		if err != nil {
			return err
		}
		for i := range list {
			e := &list[i]
			if c.json {
				if err := c.printJSON(newEntryLine(e)); err != nil {
					return err
				}
				continue
			}
			t.row(e.ID, age(time.Since(e.Last))+" ago", e.Group, e.Event, e.Key, e.Attempts, e.Replays, e.Fingerprint, firstLine(e.Error, 100))
		}
		if page.From = next; !endless || next == "" {
			break
		}
	}
	if !c.json {
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if page.From != "" {
		fmt.Fprintf(c.stderr, "postbus: there are more; go on with --from %s\n", page.From)
	}
	return nil
}

// kindLine is a kind of failure as JSON.
type kindLine struct {
	Kind    string    `json:"kind"`
	Count   int       `json:"count"`
	Group   string    `json:"group"`
	Event   string    `json:"event,omitempty"`
	Pattern string    `json:"pattern"`
	Sample  string    `json:"sample"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

func quarantineKindsCommand() *command {
	var s selection
	var limit int
	return &command{
		name: "quarantine kinds", uses: usesStore | usesJSON,
		short: "List what is wrong: entries that wait and failed alike, the most frequent kind first",
		long:  `Errors are alike if group, event and innermost error are, apart from numbers, ids and quoted values, written "#".`,
		examples: []string{
			"postbus quarantine kinds",
			"postbus quarantine kinds --group billing --json",
		},
		flags: func(f *flag.FlagSet) {
			f.StringVar(&s.group, "group", "", "only those of this `GROUP`")
			f.StringVar(&s.event, "event", "", "only those of this `EVENT`")
			f.IntVar(&limit, "limit", 50, "at most this `NUMBER`")
		},
		run: func(ctx context.Context, c *call) error {
			q, err := c.openQuarantine(ctx, nil)
			if err != nil {
				return err
			}
			defer q.Close()
			list, err := q.Fingerprints(ctx, quarantine.Filter{Group: s.group, Event: s.event}, limit)
			if err != nil {
				return err
			}
			if c.json {
				for _, k := range list {
					err := c.printJSON(kindLine{k.Fingerprint, k.Count, k.Group, k.Event, k.Pattern, k.Sample, k.First.UTC(), k.Last.UTC()})
					if err != nil {
						return err
					}
				}
				return nil
			}
			t := c.table("KIND", "COUNT", "GROUP", "EVENT", "FAILED", "ERROR")
			for _, k := range list {
				t.row(k.Fingerprint, k.Count, k.Group, k.Event, age(time.Since(k.Last))+" ago", firstLine(k.Pattern, 100))
			}
			return t.Flush()
		},
	}
}
