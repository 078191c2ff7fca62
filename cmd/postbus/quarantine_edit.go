package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/postbus/postbus/middleware/quarantine"
)

func quarantineEditCommand() *command {
	var e quarantine.Edit
	var payload string
	var metadata headers
	return &command{
		name: "quarantine edit", args: "ID", least: 1, most: 1, uses: usesStore,
		short: "Change what a replay of an entry sends",
		long: `
What came is kept, and "postbus quarantine show" has both. A payload that is to be JSON, and is not, is refused unless
--force is said. Nothing is sent: that is for "postbus quarantine replay".`,
		examples: []string{
			`postbus quarantine show 17 --payload > order.json && vi order.json && postbus quarantine edit 17 --payload @order.json`,
			`postbus quarantine edit 17 --payload '{"order_id":"o-1","cents":1995}'`,
			`postbus quarantine edit 17 --meta tenant=acme --meta debug=   # sets one header, and removes another`,
			`postbus quarantine edit 17 --undo`,
		},
		flags: func(f *flag.FlagSet) {
			f.StringVar(&payload, "payload", "", "the new payload: `TEXT`, @FILE, or - for the standard input")
			f.Var(&metadata, "meta", "a header to set, as `KEY=VALUE`; an empty value removes it; may be repeated")
			f.BoolVar(&e.Undo, "undo", false, "begin from what came, without earlier edits")
			f.BoolVar(&e.Force, "force", false, "take a payload that cannot be decoded")
		},
		run: func(ctx context.Context, c *call) error {
			id, err := parseID(c.args[0])
			if err != nil {
				return err
			}
			if payload == "" && len(metadata) == 0 && !e.Undo {
				return usage("edit what? Say --payload, --meta or --undo")
			}
			if payload != "" {
				read, err := c.read(payload)
				if err != nil {
					return err
				}
				e.Payload = append([]byte{}, read...) // not nil, even if it is empty
			}
			e.Metadata = metadata
			q, err := c.openQuarantine(ctx, nil)
			if err != nil {
				return err
			}
			defer q.Close()
			if err := q.Edit(ctx, id, e); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.stdout, "edited; to send it: postbus quarantine replay %d\n", id)
			return err
		},
	}
}
