package main

import (
	"context"
	"errors"
	"flag"
	"strconv"

	"github.com/postbus/postbus/transport"
)

// groupLine is a group on a topic, as JSON.
type groupLine struct {
	Topic      string  `json:"topic"`
	Group      string  `json:"group"`
	Partition  int     `json:"partition"`
	Partitions int     `json:"partitions"`
	Owner      string  `json:"owner"`
	Lag        int     `json:"lag"`
	AgeSeconds float64 `json:"age_seconds"`
	StalledBy  int     `json:"stalled_by,omitempty"`
	StalledFor float64 `json:"stalled_for_seconds,omitempty"`
	Err        string  `json:"error,omitempty"`
}

func groupsCommand() *command {
	var topic, group string
	return &command{
		name: "groups", uses: usesTransport | usesJSON,
		short: "List the groups, how far behind they are, and who has them",
		long: `
OWNER is the active consumer, as host/process/a random text; "-" if there is none. LAG is how many messages wait, and
AGE how long the oldest has. STALLED names the process in the database whose open transaction holds messages back. A
group that is split has a line for each partition, whose lag counts the messages of all. A LAG of "?" could not be
found out; why is said at the end.

RabbitMQ does not tell its clients about queues: look at "rabbitmqctl list_queues name messages consumers", where a
queue is named TOPIC_GROUP.`,
		examples: []string{
			"postbus groups --transport postgres://shop@db/shop",
			"postbus groups --config shop.yaml --group billing",
			"postbus groups --json | jq 'select(.lag > 1000)'",
		},
		flags: func(f *flag.FlagSet) {
			f.StringVar(&topic, "topic", "", "only this `TOPIC`")
			f.StringVar(&group, "group", "", "only this `GROUP`")
		},
		run: func(ctx context.Context, c *call) error {
			t, err := c.openTransport(ctx)
			if err != nil {
				return err
			}
			defer t.Close()
			r, err := does[transport.StatusReporter](t, "its groups; see: postbus help groups")
			if err != nil {
				return err
			}
			all, err := r.Status(ctx)
			if err != nil {
				return err
			}
			var list []transport.GroupStatus
			for _, s := range all {
				if (topic == "" || s.Topic == topic) && (group == "" || s.Group == group) {
					list = append(list, s)
				}
			}
			if err := c.printGroups(list); err != nil {
				return err
			}
			var errs []error
			for _, s := range list {
				errs = append(errs, s.Err)
			}
			return errors.Join(errs...)
		},
	}
}

func (c *call) printGroups(list []transport.GroupStatus) error {
	if c.json {
		for _, s := range list {
			err := c.printJSON(groupLine{
				Topic: s.Topic, Group: s.Group, Partition: s.Partition, Partitions: s.Partitions, Owner: s.Owner, Lag: s.Lag,
				AgeSeconds: s.LagAge.Seconds(), StalledBy: s.StalledBy, StalledFor: s.StalledFor.Seconds(), Err: errorText(s.Err),
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	t := c.table("TOPIC", "GROUP", "PARTITION", "OWNER", "LAG", "AGE", "STALLED")
	for _, s := range list {
		var part, stalled, lag, old any = "", "", s.Lag, ""
		if s.Partitions > 1 {
			part = s.Partition
		}
		if s.Lag > 0 {
			old = age(s.LagAge)
		}
		if s.Err != nil {
			lag = "?"
		}
		if s.StalledBy != 0 {
			stalled = age(s.StalledFor) + " by process " + strconv.Itoa(s.StalledBy)
		}
		t.row(s.Topic, s.Group, part, s.Owner, lag, old, stalled)
	}
	return t.Flush()
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
