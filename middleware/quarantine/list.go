package quarantine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/transport"
)

// Entry is a message in quarantine, in a list.
//
// Texts of errors and of messages are as they came: who prints them on a terminal escapes control characters.
type Entry struct {
	// ID names the entry.
	ID     int64
	Status Status
	// Group is the one that could not handle the message, and Topic where it travelled.
	Group, Topic string
	// Event is the name of the event; empty if a foreign publisher named none.
	Event string
	// MessageID and Key are those of the message.
	MessageID, Key string
	// Fingerprint groups entries that failed in the same way; empty for one that has not failed.
	Fingerprint string
	// Error is the last error.
	Error string
	// First and Last are the times of the first and the last failure that brought it here, to the millisecond.
	First, Last time.Time
	// Attempts is how many deliveries have failed, those after replays included, and Replays how often the message was
	// replayed.
	Attempts, Replays int
	// Edited reports whether a replay sends something else than what came.
	Edited bool
}

// DefaultLimit is used where Page.Limit is zero.
const DefaultLimit = 100

// Page is a part of a list.
type Page struct {
	// Limit is how many entries it has, at most. Default: DefaultLimit.
	Limit int
	// From is what List returned with the page before. Default: the first page.
	From string
}

const listColumns = "id, status, grp, topic, event, msg_id, msg_key, fp, errors, first_ms, last_ms, attempts, replays, new_headers IS NOT NULL"

func scanEntry(row scanner, more ...any) (e Entry, errs []string, err error) {
	var texts string
	var first, last int64
	into := append([]any{&e.ID, &e.Status, &e.Group, &e.Topic, &e.Event, &e.MessageID, &e.Key, &e.Fingerprint, &texts, &first, &last,
		&e.Attempts, &e.Replays, &e.Edited}, more...)
	if err := row.Scan(into...); err != nil {
		return e, nil, err
	}
	e.First, e.Last = timeOf(first), timeOf(last)
	if err := decode(texts, &errs); err != nil {
		return e, nil, errJSON(err)
	}
	if len(errs) > 0 {
		e.Error = errs[0]
	}
	return e, errs, nil
}

// List returns entries, the one that failed last first, and where the next page begins; that is empty after the last.
// An entry that fails again while a list is paged through moves to the front of it.
func (s *Store) List(ctx context.Context, f Filter, p Page) (list []Entry, next string, err error) {
	if err := s.Prepare(ctx); err != nil {
		return nil, "", err
	}
	var w where
	if p.From != "" {
		c, err := parseCursor(p.From)
		if err != nil {
			return nil, "", fmt.Errorf("quarantine: list: %w", err)
		}
		// One bound and not two, of which SQLite might take the worse.
		if end := timeOf(c.last + 1); f.Before.IsZero() || end.Before(f.Before) {
			f.Before = end
		}
		w.and("(last_ms < ? OR id < ?)", c.last, c.id)
	}
	if err := w.entries(s, f); err != nil {
		return nil, "", fmt.Errorf("quarantine: list: %w", err)
	}
	limit := p.Limit
	if limit <= 0 {
		limit = DefaultLimit
	}
	q := "SELECT " + listColumns + " FROM postbus_quarantine" + w.text() + " ORDER BY last_ms DESC, id DESC LIMIT ?"
	err = s.query(ctx, s.db.SQL(), q, append(w.args, limit+1), func(row scanner) error {
		e, _, err := scanEntry(row)
		list = append(list, e)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("quarantine: list: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		last := list[limit-1]
		next = cursor{last.Last.UnixMilli(), last.ID}.String()
	}
	return list, next, nil
}

// Record is all that is known of an entry.
type Record struct {
	Entry
	// Errors is the chain of the last error, outside in: what it wraps, what that wraps, and so on.
	Errors []string
	// Stack is that of the panic, if the handler panicked.
	Stack string
	// Message is what came, every field and byte.
	Message transport.Message
	// Replacement is what a replay sends instead, if the entry was edited; else nil.
	Replacement *transport.Message
	// History has the failures that brought it here, the first one first. Of a long history the first and the last ones
	// are kept, and Omitted is the number of those in between that are not.
	History []Failure
	Omitted int
}

// Failure is one entry of a history.
type Failure struct {
	Time time.Time
	// Attempt is the number of the delivery; each replay begins anew at 1.
	Attempt int
	// Replay is the number of the replay, 0 before the first.
	Replay int
	// Error is the text of the error, or its beginning.
	Error string
}

// Show returns an entry with its message. The error matches ErrNotFound if there is none with the id.
func (s *Store) Show(ctx context.Context, id int64) (*Record, error) {
	if err := s.Prepare(ctx); err != nil {
		return nil, err
	}
	var headers, details string
	var edited sql.NullString
	var newBody bool
	var payload, newPayload []byte
	q := "SELECT " + listColumns + ", headers, detail, new_headers, new_body, payload, new_payload FROM postbus_quarantine WHERE id = ?"
	row := s.db.SQL().QueryRowContext(ctx, s.bind(q), id)
	e, errs, err := scanEntry(row, &headers, &details, &edited, &newBody, &payload, &newPayload)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	var d detail
	if err == nil {
		err = decode(details, &d)
	}
	r := &Record{Entry: e, Errors: errs, Stack: d.Stack, Omitted: d.Omitted}
	if err == nil {
		r.Message, r.Replacement, err = messages(headers, payload, edited, newBody, newPayload)
	}
	if err != nil {
		return nil, fmt.Errorf("quarantine: show %d: %w", id, err)
	}
	for _, h := range d.History {
		r.History = append(r.History, Failure{Time: timeOf(h.At), Attempt: h.Attempt, Replay: h.Replay, Error: h.Error})
	}
	return r, nil
}

// messages decodes what came, and what a replay sends instead, if there is such a thing.
func messages(headers string, payload []byte, edited sql.NullString, newBody bool, newPayload []byte) (transport.Message, *transport.Message, error) {
	var h map[string]string
	if err := decode(headers, &h); err != nil {
		return transport.Message{}, nil, errJSON(err)
	}
	came := messageOf(h, payload)
	if !edited.Valid {
		return *came, nil, nil
	}
	var changed map[string]string
	if err := decode(edited.String, &changed); err != nil {
		return *came, nil, errJSON(err)
	}
	if newBody {
		payload = newPayload
	}
	return *came, messageOf(changed, payload), nil
}
