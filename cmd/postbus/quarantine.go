package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/transport"
)

// openQuarantine opens the store, with a transport to replay to if t is not nil; the caller closes it.
func (c *call) openQuarantine(ctx context.Context, t transport.Transport) (*quarantine.Store, error) {
	url, err := c.storeURL()
	if err != nil {
		return nil, err
	}
	return quarantine.Open(ctx, url, quarantine.Config{Transport: t})
}

// selection is the flags that say which entries are meant.
type selection struct {
	group, event, kind, message, status string
	since, before                       string
	all                                 bool
}

func (s *selection) flags(f *flag.FlagSet) {
	f.StringVar(&s.group, "group", "", "only those of this `GROUP`")
	f.StringVar(&s.event, "event", "", "only those of this `EVENT`")
	f.StringVar(&s.kind, "kind", "", "only those that failed alike: a `KIND` of \"postbus quarantine kinds\"")
	f.StringVar(&s.message, "message", "", "only those of the message with this `ID`, as log lines name it")
	f.StringVar(&s.status, "status", quarantine.Waiting.String(), "only those in this `STATUS`: waiting, parked, replaying, replayed or handled")
	f.StringVar(&s.since, "since", "", "only those that failed last since this `TIME`: 2026-01-31T12:00:00Z, or 2h ago")
	f.StringVar(&s.before, "before", "", "only those that failed last before this `TIME`")
}

// flagsForMany has --all besides.
func (s *selection) flagsForMany(f *flag.FlagSet) {
	s.flags(f)
	f.BoolVar(&s.all, "all", false, "all that wait, where no id and no other flag says which")
}

// filter is what the flags and the ids say.
func (s *selection) filter(ids []string) (quarantine.Filter, error) {
	f := quarantine.Filter{Group: s.group, Event: s.event, Fingerprint: s.kind, MessageID: s.message, All: s.all}
	var err error
	if f.Status, err = quarantine.ParseStatus(s.status); err != nil {
		return f, usage("--status: %v", err)
	}
	if f.Since, err = parseTime("since", s.since); err != nil {
		return f, err
	}
	if f.Before, err = parseTime("before", s.before); err != nil {
		return f, err
	}
	for _, id := range ids {
		n, err := parseID(id)
		if err != nil {
			return f, err
		}
		if !slices.Contains(f.IDs, n) {
			f.IDs = append(f.IDs, n)
		}
	}
	if len(f.IDs) > quarantine.MaxIDs {
		return f, usage("%d ids at once; %d are allowed", len(f.IDs), quarantine.MaxIDs)
	}
	return f, nil
}

// chosen is filter for commands that change entries: what is meant must be said.
func (s *selection) chosen(ids []string) (quarantine.Filter, error) {
	f, err := s.filter(ids)
	if err == nil && len(ids) == 0 && !s.all && s.group+s.event+s.kind+s.message+s.since+s.before == "" {
		err = usage("which entries? Name their ids, or say --group, --event, --kind, --message, --since or --before, or --all")
	}
	return f, err
}

func parseID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id <= 0 {
		return 0, usage("%q is not the id of an entry, which is a positive number", text)
	}
	return id, nil
}

// parseTime reads a time, or a duration, which is one before now.
func parseTime(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	number, days := strings.CutSuffix(text, "d")
	if n, err := strconv.Atoi(number); days && err == nil && n >= 0 {
		return time.Now().AddDate(0, 0, -n), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	return time.Time{}, usage("--%s %q is neither a time as 2026-01-31T12:00:00Z nor a time ago as 30m, 2h or 7d", flag, text)
}

// entryLine is an entry as JSON.
type entryLine struct {
	ID        int64     `json:"id"`
	Status    string    `json:"status"`
	Group     string    `json:"group"`
	Topic     string    `json:"topic"`
	Event     string    `json:"event,omitempty"`
	MessageID string    `json:"message_id"`
	Key       string    `json:"key,omitempty"`
	Kind      string    `json:"kind,omitempty"`
	Error     string    `json:"error"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Attempts  int       `json:"attempts"`
	Replays   int       `json:"replays"`
	Edited    bool      `json:"edited"`
}

func newEntryLine(e *quarantine.Entry) entryLine {
	return entryLine{
		ID: e.ID, Status: e.Status.String(), Group: e.Group, Topic: e.Topic, Event: e.Event, MessageID: e.MessageID, Key: e.Key,
		Kind: e.Fingerprint, Error: e.Error, First: e.First.UTC(), Last: e.Last.UTC(), Attempts: e.Attempts, Replays: e.Replays, Edited: e.Edited,
	}
}

// firstLine is the beginning of a text, for a column.
func firstLine(text string, most int) string {
	line, _, more := strings.Cut(text, "\n")
	if r := []rune(line); len(r) > most {
		line, more = string(r[:most]), true
	}
	if more {
		line += "…"
	}
	return line
}

// count prints a number of entries.
func (c *call) count(key, text string, n int) error {
	if c.json {
		return c.printJSON(map[string]int{key: n})
	}
	_, err := fmt.Fprintf(c.stdout, text+"\n", n)
	return err
}
