package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/store"
)

// sagaLine is an instance, as JSON.
type sagaLine struct {
	Saga          string          `json:"saga"`
	Key           string          `json:"key"`
	Version       int             `json:"version"`
	Status        saga.Status     `json:"status"`
	Step          string          `json:"step,omitempty"`
	Error         string          `json:"error,omitempty"`
	Started       time.Time       `json:"started"`
	Ended         time.Time       `json:"ended,omitzero"`
	Due           time.Time       `json:"due,omitzero"`
	ParentSaga    string          `json:"parent_saga,omitempty"`
	ParentKey     string          `json:"parent_key,omitempty"`
	CorrelationID string          `json:"correlation_id,omitempty"`
	State         json.RawMessage `json:"state,omitempty"`
	// Journal is of "saga show" alone.
	Journal []saga.Entry `json:"journal,omitempty"`
}

func newSagaLine(i saga.Instance) sagaLine {
	return sagaLine{
		Saga: i.Saga, Key: i.Key, Version: i.Version, Status: i.Status, Step: i.Step, Error: i.Error, Started: i.Started, Ended: i.Ended,
		Due: i.Due, ParentSaga: i.ParentSaga, ParentKey: i.ParentKey, CorrelationID: i.CorrelationID, State: i.State,
	}
}

// operator opens the database; the caller closes it.
func (c *call) operator(ctx context.Context) (*saga.Operator, *store.DB, error) {
	raw, err := c.storeURL()
	if err != nil {
		return nil, nil, err
	}
	db, err := store.Open(ctx, raw)
	if err != nil {
		return nil, nil, err
	}
	op := saga.NewOperator(db)
	if _, err := op.List(ctx, saga.Filter{Limit: 1}); err != nil {
		if store.IsNoTable(err) {
			err = errors.New("no program with sagas has run on this database: their tables are not there")
		}
		return nil, nil, errors.Join(err, db.Close())
	}
	return op, db, nil
}

func sagaListCommand() *command {
	var f saga.Filter
	var status string
	var older time.Duration
	return &command{
		name: "saga list", uses: usesStore | usesJSON,
		short: "List instances of sagas, and where they stand",
		long: `
STATUS is running, compensating, stuck, completed, compensated or cancelled; one that is stuck waits for a person, see:
postbus help saga retry. AGE is the time since the start. ERROR is why an instance is stuck, or was undone.`,
		examples: []string{
			"postbus saga list --store postgres://shop@db/shop --status stuck",
			"postbus saga list --saga checkout --step charge --older 1h",
			"postbus saga list --config shop.yaml --json | jq -r .key",
		},
		flags: func(fs *flag.FlagSet) {
			fs.StringVar(&f.Saga, "saga", "", "only this `SAGA`")
			fs.StringVar(&status, "status", "", "only those of this `STATUS`")
			fs.StringVar(&f.Step, "step", "", "only those that stand at this `STEP`")
			fs.DurationVar(&older, "older", 0, "only those that started longer than this `TIME` ago: 90s, 2h")
			fs.IntVar(&f.Limit, "limit", 100, "at most this `NUMBER`, by saga and key; 0 for all")
		},
		run: func(ctx context.Context, c *call) error {
			f.Status = saga.Status(status)
			if err := checkStatus(f.Status); err != nil {
				return err
			}
			op, db, err := c.operator(ctx)
			if err != nil {
				return err
			}
			defer db.Close()
			if older > 0 {
				f.Before = time.Now().Add(-older)
			}
			return c.listSagas(ctx, op, f)
		},
	}
}

func checkStatus(s saga.Status) error {
	switch s {
	case "", saga.Running, saga.Compensating, saga.Stuck, saga.Completed, saga.Compensated, saga.Cancelled:
		return nil
	}
	return usage("--status %q is none of running, compensating, stuck, completed, compensated, cancelled", string(s))
}

// listSagas prints page by page.
func (c *call) listSagas(ctx context.Context, op *saga.Operator, f saga.Filter) error {
	const page = 500
	var t table
	if !c.json {
		t = c.table("SAGA", "KEY", "VERSION", "STATUS", "STEP", "AGE", "ERROR")
	}
	left := f.Limit
	for {
		if f.Limit = page; left > 0 {
			f.Limit = min(page, left)
		}
		list, err := op.List(ctx, f)
		if err != nil {
			return err
		}
		for _, i := range list {
			if c.json {
				if err := c.printJSON(newSagaLine(i)); err != nil {
					return err
				}
				continue
			}
			t.row(i.Saga, i.Key, i.Version, i.Status, i.Step, age(time.Since(i.Started)), i.Error)
		}
		left -= len(list)
		if len(list) < f.Limit || left == 0 {
			break
		}
		f.After = list[len(list)-1]
	}
	if c.json {
		return nil
	}
	return t.Flush()
}

func sagaShowCommand() *command {
	return &command{
		name: "saga show", uses: usesStore | usesJSON, args: "SAGA KEY", least: 2, most: 2,
		short: "Show an instance of a saga, with its journal",
		long: `
The journal has a line for each thing that has happened: what was done and undone, which attempts have failed and why,
which events came. Lines of one REV were committed together. Of an instance that has ended, state and journal are
removed after the retention of the program.`,
		examples: []string{
			"postbus saga show checkout order-17 --store postgres://shop@db/shop",
			"postbus saga show checkout order-17 --json | jq .state",
		},
		run: func(ctx context.Context, c *call) error {
			op, db, err := c.operator(ctx)
			if err != nil {
				return err
			}
			defer db.Close()
			i, err := op.Get(ctx, c.args[0], c.args[1])
			if err != nil {
				return err
			}
			journal, err := op.Journal(ctx, i.Saga, i.Key)
			if err != nil {
				return err
			}
			if c.json {
				line := newSagaLine(i)
				line.Journal = journal
				return c.printJSON(line)
			}
			return c.showSaga(i, journal)
		},
	}
}

func (c *call) showSaga(i saga.Instance, journal []saga.Entry) error {
	t := c.table("SAGA", i.Saga)
	t.row("KEY", i.Key)
	t.row("VERSION", i.Version)
	t.row("STATUS", i.Status)
	for _, line := range [...]struct {
		head string
		text any
		show bool
	}{
		{"STEP", i.Step, i.Step != ""},
		{"ERROR", i.Error, i.Error != ""},
		{"STARTED", i.Started.UTC().Format(time.RFC3339), true},
		{"ENDED", i.Ended.UTC().Format(time.RFC3339), !i.Ended.IsZero()},
		{"DUE", i.Due.UTC().Format(time.RFC3339), !i.Due.IsZero()},
		{"PARENT", i.ParentSaga + " " + i.ParentKey, i.ParentSaga != ""},
		{"CORRELATION", i.CorrelationID, i.CorrelationID != ""},
		{"STATE", string(i.State), i.State != nil},
	} {
		if line.show {
			t.row(line.head, line.text)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.stdout); err != nil {
		return err
	}
	t = c.table("REV", "TIME", "WHAT", "STEP", "ATTEMPT", "TOOK", "EVENT", "ERROR")
	for _, e := range journal {
		var attempt, took any = "", ""
		if e.Attempt > 0 {
			attempt = e.Attempt
		}
		if e.Took > 0 {
			took = age(e.Took)
		}
		t.row(e.Rev, e.At.UTC().Format(time.RFC3339), e.Kind, e.Step, attempt, took, e.Event, e.Error)
	}
	return t.Flush()
}

// steering is a command that has a program change an instance.
func steering(name, short, long string, do func(op *saga.Operator, ctx context.Context, saga, key string) error) func() *command {
	return func() *command {
		var wait time.Duration
		return &command{
			name: "saga " + name, uses: usesStore | usesJSON, args: "SAGA KEY", least: 2, most: 2, short: short,
			long: long + `

A program that runs the saga carries the command out, once. If none does in time, it is withdrawn, and the exit code is 1.
It is refused if the instance has ended.`,
			examples: []string{"postbus saga " + name + " checkout order-17 --store postgres://shop@db/shop"},
			flags: func(fs *flag.FlagSet) {
				fs.DurationVar(&wait, "wait", 30*time.Second, "how long to wait for a program: a `TIME` of a minute at most")
			},
			run: func(ctx context.Context, c *call) error {
				if wait <= 0 || wait > time.Minute {
					return usage("--wait %v is not between 0 and 1m", wait)
				}
				op, db, err := c.operator(ctx)
				if err != nil {
					return err
				}
				defer db.Close()
				asked, cancel := context.WithTimeout(ctx, wait)
				defer cancel()
				if err := do(op, asked, c.args[0], c.args[1]); err != nil {
					return err
				}
				i, err := op.Get(ctx, c.args[0], c.args[1])
				switch {
				case errors.Is(err, saga.ErrNotFound): // it has ended, and is not kept
					return nil
				case err != nil:
					return err
				case c.json:
					return c.printJSON(newSagaLine(i))
				}
				_, err = fmt.Fprintf(c.stdout, "%s %s is %s\n", escape(i.Saga), escape(i.Key), i.Status)
				return err
			},
		}
	}
}

var (
	sagaRetryCommand = steering("retry", "Have a stuck instance try again",
		"The step because of which the instance is stuck is tried again, as often as its definition says.", (*saga.Operator).Retry)
	sagaSkipCommand = steering("skip", "Have a stuck instance go on after the step that failed",
		"The step because of which the instance is stuck is taken for done, or for undone: you have seen to it yourself.", (*saga.Operator).Skip)
	sagaCompensateCommand = steering("compensate", "Abort an instance, and undo what it has done",
		"An instance that is past its pivot cannot be undone, and is refused.", (*saga.Operator).Compensate)
	sagaCancelCommand = steering("cancel", "End an instance as it is",
		"Nothing more is done, and nothing is undone. This works also for an instance that no program can read any more.", (*saga.Operator).Cancel)
)
