package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/examples/shop/intake"
)

// shelf keeps the messages that cannot be handled: the shop's quarantine.
type shelf struct {
	mu      sync.Mutex
	entries map[string]setAside // by group and message, so that a redelivery makes no second
	lines   int                 // of the entries, those that are lines of input
}

// setAside is a message that cannot be handled, or a line that could not travel.
type setAside struct {
	Line   int // its number in the input; 0 if it is not a line
	Event  string
	Group  string // empty if it never came to one
	Key    string
	Text   []byte // the payload, byte by byte
	Reason error
}

// Put keeps a delivery. It implements middleware.Quarantine.
func (s *shelf) Put(_ context.Context, d *bus.Delivery, reason error) error {
	e := setAside{Event: d.Message().Name, Group: d.Group, Key: d.Message().Key, Text: d.Message().Payload, Reason: reason}
	if line, ok := d.Message().Value.(intake.Line); ok { // handed over by reference, without a payload
		e.Text = []byte(line.String())
	}
	if d.Message().Name == intake.LineName {
		e.Line, _ = strconv.Atoi(d.Message().Metadata[intake.MetadataLine])
	}
	s.add(d.Group+"/"+d.Message().ID, e)
	return nil
}

// refuse keeps a line that the transport did not take.
func (s *shelf) refuse(number int, text []byte, err error) {
	s.add("/"+strconv.Itoa(number), setAside{Line: number, Event: intake.LineName, Text: text, Reason: fmt.Errorf("cannot travel: %w", err)})
}

func (s *shelf) add(id string, e setAside) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries == nil {
		s.entries = map[string]setAside{}
	}
	if _, known := s.entries[id]; !known {
		if e.Event == intake.LineName {
			s.lines++
		}
	}
	s.entries[id] = e
}

// list returns what is set aside: the lines in their order, and then the rest.
func (s *shelf) list() []setAside {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.entries), func(a, b setAside) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Event, b.Event))
	})
}

// sums returns how many lines are set aside, and how many messages in all.
func (s *shelf) sums() (lines, all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines, len(s.entries)
}

// retries counts what comes more than once, by the key of the message: the order.
type retries struct {
	mu    sync.Mutex
	tries map[string]int // beyond the first, by key
	total int
}

// count is a middleware. It belongs inside of the chain's retry, where each try passes by.
func (r *retries) count(next bus.Handler) bus.Handler {
	return func(ctx context.Context, d *bus.Delivery) error {
		if d.Tries > 0 || d.Attempt > 1 {
			r.mu.Lock()
			if r.tries == nil {
				r.tries = map[string]int{}
			}
			r.tries[d.Message().Key]++
			r.total++
			r.mu.Unlock()
		}
		return next(ctx, d)
	}
}

func (r *retries) sums() (orders, tries int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.tries), r.total
}
