package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"github.com/postbus/postbus/middleware/quarantine"
)

// replayLine is the outcome of a replay as JSON.
type replayLine struct {
	Replayed int      `json:"replayed"`
	InLine   int      `json:"in_line"`
	Refused  int      `json:"refused"`
	Errors   []string `json:"errors,omitempty"`
}

func quarantineReplayCommand() *command {
	var s selection
	var o quarantine.ReplayOptions
	return &command{
		name: "quarantine replay", args: "[ID…]", most: -1, uses: usesStore | usesTransport | usesJSON,
		short: "Send messages again, to the group that failed and to no other, those that failed first first",
		long: `
An entry that fails again waits again, with its history. A replay can be interrupted and run again, and be run by two at
once: each entry goes to one. The exit code is 1 if entries were refused, as those of a group that is gone.

Entries of a parked key are counted apart, as in line: they are sent one after the other, each when the one before it was
handled, by the programs that have the group. See "postbus quarantine list --status parked".`,
		examples: []string{
			"postbus quarantine replay 17 18 --config shop.yaml",
			"postbus quarantine replay --kind 0f6c2b9d8e7a1345 --rate 100",
			"postbus quarantine replay --group billing --limit 1      # one, to see whether it is mended",
			"postbus quarantine replay --all",
		},
		flags: func(f *flag.FlagSet) {
			s.flagsForMany(f)
			f.Float64Var(&o.Rate, "rate", 0, "at most this `NUMBER` of entries a second; 0 is no limit")
			f.IntVar(&o.Limit, "limit", 0, "at most this `NUMBER`; 0 is no limit")
		},
		run: func(ctx context.Context, c *call) error {
			filter, err := s.chosen(c.args)
			if err != nil {
				return err
			}
			if !(o.Rate >= 0) || o.Limit < 0 {
				return usage("--rate %v and --limit %d must not be negative", o.Rate, o.Limit)
			}
			t, err := c.openTransport(ctx)
			if err != nil {
				return err
			}
			defer t.Close()
			q, err := c.openQuarantine(ctx, t)
			if err != nil {
				return err
			}
			defer q.Close()
			result, err := q.Replay(ctx, filter, o)
			if perr := c.printReplay(result); err == nil {
				err = perr
			}
			if err == nil && result.Refused > 0 {
				err = fmt.Errorf("%d entries were refused, and wait as before", result.Refused)
			}
			if n := result.Replayed + result.InLine; err == nil && o.Limit == 0 && n < len(filter.IDs) {
				err = fmt.Errorf("%d of %d entries were not there to be replayed: they are gone, or not %s", len(filter.IDs)-n, len(filter.IDs), filter.Status)
			}
			return err
		},
	}
}

func (c *call) printReplay(r quarantine.Result) error {
	line := replayLine{Replayed: r.Replayed, InLine: r.InLine, Refused: r.Refused}
	for _, err := range r.Errors {
		line.Errors = append(line.Errors, err.Error())
	}
	if c.json {
		return c.printJSON(line)
	}
	for _, text := range line.Errors {
		fmt.Fprintf(c.stderr, "refused: %s\n", escape(text))
	}
	text := fmt.Sprintf("replayed %d\n", r.Replayed)
	if r.InLine > 0 {
		text += fmt.Sprintf("in line %d, of parked keys: each is sent when the one before it was handled\n", r.InLine)
	}
	_, err := io.WriteString(c.stdout, text)
	return err
}
