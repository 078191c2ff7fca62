package main

import (
	"context"
	"flag"
	"fmt"
)

func quarantineDiscardCommand() *command {
	var s selection
	var try bool
	return &command{
		name: "quarantine discard", args: "[ID…]", most: -1, uses: usesStore | usesJSON,
		short: "Remove entries for good, with their messages",
		examples: []string{
			"postbus quarantine discard 17 18",
			"postbus quarantine discard --kind 0f6c2b9d8e7a1345 --try  # how many would go?",
			"postbus quarantine discard --group billing --before 30d",
			"postbus quarantine discard --all",
		},
		flags: func(f *flag.FlagSet) {
			s.flagsForMany(f)
			f.BoolVar(&try, "try", false, "print how many would be removed, and remove none")
		},
		run: func(ctx context.Context, c *call) error {
			filter, err := s.chosen(c.args)
			if err != nil {
				return err
			}
			q, err := c.openQuarantine(ctx, nil)
			if err != nil {
				return err
			}
			defer q.Close()
			if try {
				n, err := q.Count(ctx, filter)
				if err != nil {
					return err
				}
				return c.count("would_discard", "would discard %d", n)
			}
			n, err := q.Discard(ctx, filter)
			if perr := c.count("discarded", "discarded %d", n); err == nil {
				err = perr
			}
			if err == nil && n < len(filter.IDs) {
				err = fmt.Errorf("%d of %d entries were not there to be discarded: they are gone, or not %s", len(filter.IDs)-n, len(filter.IDs), filter.Status)
			}
			return err
		},
	}
}
