package quarantine

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Status is the state of an entry.
type Status uint8

const (
	// Waiting entries failed, and wait for somebody to decide.
	Waiting Status = iota
	// Parked entries never failed: they wait behind one of their key.
	Parked
	// Replaying entries are on their way to the transport; of a parked key, to having been handled.
	Replaying
	// Replayed entries were published again. Whether they were handled is not known; if they failed they wait again.
	Replayed
	// Handled entries were replayed, and handled: this is known of parked keys alone.
	Handled
)

var statuses = [...]string{"waiting", "parked", "replaying", "replayed", "handled"}

// String returns "waiting", "parked", "replaying", "replayed" or "handled".
func (s Status) String() string {
	if int(s) < len(statuses) {
		return statuses[s]
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}

// ParseStatus is the inverse of Status.String.
func ParseStatus(name string) (Status, error) {
	for i, s := range statuses {
		if s == name {
			return Status(i), nil
		}
	}
	return 0, fmt.Errorf("quarantine: status %q is not one of %s", name, strings.Join(statuses[:], ", "))
}

// Filter says which entries are meant: those that match all fields which are not empty.
type Filter struct {
	// Status is that of the entries. Default: Waiting.
	Status Status
	// IDs are those of entries, at most MaxIDs.
	IDs []int64
	// Group, Event and Fingerprint are theirs.
	Group, Event, Fingerprint string
	// MessageID is that of the message, such as a log line names it.
	MessageID string
	// Since and Before bound the time of the last failure: from Since on, and earlier than Before.
	Since, Before time.Time
	// All says that a filter without any of the above is meant, where everything is at stake: Replay and Discard refuse it
	// otherwise.
	All bool
}

// MaxIDs is how many ids a filter can have.
const MaxIDs = 1000

// byName reports whether the counts by fingerprint can answer.
func (f *Filter) byName() bool {
	return f.Status == Waiting && f.IDs == nil && f.MessageID == "" && f.Since.IsZero() && f.Before.IsZero()
}

// chosen is an error if f does not say what it means.
func (f *Filter) chosen() error {
	if f.byName() && f.Group == "" && f.Event == "" && f.Fingerprint == "" && !f.All {
		return errors.New("the filter is empty; name ids, a group, an event, a fingerprint, a message id or a time, or set All")
	}
	return nil
}

// where is a condition in SQL.
type where struct {
	parts []string
	args  []any
}

func (w *where) and(part string, args ...any) {
	w.parts = append(w.parts, part)
	w.args = append(w.args, args...)
}

func (w *where) text() string {
	if len(w.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.parts, " AND ")
}

// names are the conditions on both tables.
func (w *where) names(f Filter) {
	if f.Group != "" {
		w.and("grp = ?", f.Group)
	}
	if f.Event != "" {
		w.and("event = ?", f.Event)
	}
	if f.Fingerprint != "" {
		w.and("fp = ?", f.Fingerprint)
	}
}

// entries are the conditions on entries.
func (w *where) entries(s *Store, f Filter) error {
	if len(f.IDs) > MaxIDs {
		return fmt.Errorf("a filter of %d ids; %d are allowed", len(f.IDs), MaxIDs)
	}
	w.and("status = ?", int(f.Status))
	w.names(f)
	if f.IDs != nil {
		if len(f.IDs) == 0 {
			w.and("1 = 0")
		} else {
			these, ids := in(s, "id", f.IDs)
			w.and(these, ids...)
		}
	}
	if f.MessageID != "" {
		low := identify("", "", f.MessageID)[:16]
		high := append(low[:16:16], strings.Repeat("\xff", 16)...)
		w.and("ident BETWEEN ? AND ?", append(low[:16:16], make([]byte, 16)...), high)
	}
	if !f.Since.IsZero() {
		w.and("last_ms >= ?", f.Since.UnixMilli())
	}
	if !f.Before.IsZero() {
		w.and("last_ms < ?", f.Before.UnixMilli())
	}
	return nil
}

// cursor is a place in the order of lists.
type cursor struct{ last, id int64 }

func (c cursor) String() string {
	return strconv.FormatInt(c.last, 36) + "-" + strconv.FormatInt(c.id, 36)
}

func parseCursor(text string) (c cursor, err error) {
	last, id, ok := strings.Cut(text, "-")
	if ok {
		if c.last, err = strconv.ParseInt(last, 36, 64); err == nil {
			c.id, err = strconv.ParseInt(id, 36, 64)
		}
	}
	if !ok || err != nil {
		return c, fmt.Errorf("the page %q is not one that List has returned", text)
	}
	return c, nil
}

func decode(text string, into any) error { return json.Unmarshal([]byte(text), into) }

func errJSON(errs ...error) error {
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("a row is malformed: %w", err)
	}
	return nil
}
