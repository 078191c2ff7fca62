package quarantine_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/transport"
)

func TestListIsPagedAndFiltered(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		s := f.store(quarantine.Config{})
		for i := range 25 {
			m := message(fmt.Sprint("m", i))
			m.Name = []string{"orders.placed", "orders.paid"}[i%2]
			put(t, s, bus.NewDelivery(m, "orders", []string{"billing", "shipping", "audit"}[i%3], 1), errBroken)
		}
		var paged []string
		page := quarantine.Page{Limit: 10}
		for pages := 0; ; pages++ {
			entries, next, err := s.List(t.Context(), quarantine.Filter{}, page)
			if err != nil || pages > 3 {
				t.Fatal(pages, err)
			}
			for _, e := range entries {
				paged = append(paged, e.MessageID)
			}
			if page.From = next; next == "" {
				break
			}
		}
		var want []string
		for i := range 25 {
			want = append(want, fmt.Sprint("m", 24-i))
		}
		if !slices.Equal(paged, want) {
			t.Errorf("got %v, want %v", paged, want)
		}
		all := list(t, s, quarantine.Filter{})
		middle := all[12]
		for name, tc := range map[string]struct {
			filter quarantine.Filter
			want   func(e quarantine.Entry) bool
		}{
			"group":         {quarantine.Filter{Group: "billing"}, func(e quarantine.Entry) bool { return e.Group == "billing" }},
			"event":         {quarantine.Filter{Event: "orders.paid"}, func(e quarantine.Entry) bool { return e.Event == "orders.paid" }},
			"both":          {quarantine.Filter{Group: "audit", Event: "orders.paid"}, func(e quarantine.Entry) bool { return e.Group == "audit" && e.Event == "orders.paid" }},
			"fingerprint":   {quarantine.Filter{Fingerprint: middle.Fingerprint}, func(e quarantine.Entry) bool { return e.Fingerprint == middle.Fingerprint }},
			"younger":       {quarantine.Filter{Since: middle.Last}, func(e quarantine.Entry) bool { return !e.Last.Before(middle.Last) }},
			"older":         {quarantine.Filter{Before: middle.Last}, func(e quarantine.Entry) bool { return e.Last.Before(middle.Last) }},
			"id":            {quarantine.Filter{IDs: []int64{middle.ID, all[0].ID}}, func(e quarantine.Entry) bool { return e.ID == middle.ID || e.ID == all[0].ID }},
			"no id":         {quarantine.Filter{IDs: []int64{}}, func(quarantine.Entry) bool { return false }},
			"message":       {quarantine.Filter{MessageID: "m7"}, func(e quarantine.Entry) bool { return e.MessageID == "m7" }},
			"other status":  {quarantine.Filter{Status: quarantine.Replayed}, func(quarantine.Entry) bool { return false }},
			"unknown group": {quarantine.Filter{Group: "nobody"}, func(quarantine.Entry) bool { return false }},
		} {
			var want []quarantine.Entry
			for _, e := range all {
				if tc.want(e) {
					want = append(want, e)
				}
			}
			if got := list(t, s, tc.filter); !slices.Equal(got, want) {
				t.Errorf("%s: got %d entries, want %d", name, len(got), len(want))
			}
			if n := count(t, s, tc.filter); n != len(want) {
				t.Errorf("%s: counted %d, want %d", name, n, len(want))
			}
		}
		kinds, err := s.Fingerprints(t.Context(), quarantine.Filter{Group: "billing"}, 10)
		if err != nil || len(kinds) != 2 || kinds[0].Count != 5 || kinds[1].Count != 4 || kinds[0].Sample != errBroken.Error() ||
			kinds[0].Group != "billing" || kinds[0].Event != "orders.placed" || kinds[0].Last.Before(kinds[0].First) {
			t.Errorf("got %+v %v", kinds, err)
		}
		if _, _, err := s.List(t.Context(), quarantine.Filter{}, quarantine.Page{From: "third"}); err == nil {
			t.Error("a page that was never returned is taken")
		}
	})
}

func TestEdit(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		w := newWire(t)
		wrong := errors.New("no such field")
		s := f.store(quarantine.Config{Transport: w, Check: func(group string, m *transport.Message) error {
			if group != "billing" || string(m.Payload) == `{"typo":1}` {
				return wrong
			}
			return nil
		}})
		put(t, s, delivery("m1"), errBroken)
		id := one(t, s, quarantine.Filter{}).ID
		for payload, cause := range map[string]error{`{"order_id":`: quarantine.ErrUndecodable, `{"typo":1}`: wrong} {
			if err := s.Edit(t.Context(), id, quarantine.Edit{Payload: []byte(payload)}); !errors.Is(err, quarantine.ErrUndecodable) || !errors.Is(err, cause) {
				t.Errorf("%s: got %v", payload, err)
			}
		}
		if e := one(t, s, quarantine.Filter{}); e.Edited {
			t.Error("a refused edit has changed the entry")
		}
		edit := func(e quarantine.Edit) transport.Message {
			t.Helper()
			if err := s.Edit(t.Context(), id, e); err != nil {
				t.Fatal(err)
			}
			r, err := s.Show(t.Context(), id)
			if err != nil || string(r.Message.Payload) != `{"order_id":"m1"}` || len(r.Message.Metadata) != 2 {
				t.Fatalf("what came is %+v %v", r, err)
			}
			if r.Edited != (r.Replacement != nil) {
				t.Errorf("edited: %v, replacement: %+v", r.Edited, r.Replacement)
			}
			if r.Replacement == nil {
				return transport.Message{}
			}
			return *r.Replacement
		}
		if m := edit(quarantine.Edit{Payload: []byte(`{"order_id":`), Force: true}); string(m.Payload) != `{"order_id":` {
			t.Errorf("got %+v", m)
		}
		if m := edit(quarantine.Edit{Undo: true}); m.ID != "" {
			t.Errorf("got %+v, want no replacement", m)
		}
		if m := edit(quarantine.Edit{Metadata: map[string]string{"fixed-by": "ann", "postbus_own": ""}}); string(m.Payload) != `{"order_id":"m1"}` ||
			fmt.Sprint(m.Metadata) != "map[fixed-by:ann traceparent:00-1-2-01]" {
			t.Errorf("got %+v", m)
		}
		edit(quarantine.Edit{Payload: []byte(`{"order_id":"fixed"}`)})
		replay(t, s, everything)
		got := w.all()
		if len(got) != 1 || string(got[0].Payload) != `{"order_id":"fixed"}` || got[0].Metadata["fixed-by"] != "ann" || got[0].ID != "m1" {
			t.Errorf("replayed %+v", got)
		}
		if err := s.Edit(t.Context(), id, quarantine.Edit{Undo: true}); !errors.Is(err, quarantine.ErrStatus) {
			t.Errorf("got %v, want ErrStatus", err)
		}
		// What fails again is what was sent; the original stays beside it.
		put(t, s, bus.NewDelivery(&got[0].Message, "orders", "billing", 1), errBroken)
		if r, err := s.Show(t.Context(), id); err != nil || string(r.Message.Payload) != `{"order_id":"m1"}` ||
			string(r.Replacement.Payload) != `{"order_id":"fixed"}` {
			t.Errorf("got %+v %v", r, err)
		}
		if err := s.Edit(t.Context(), id, quarantine.Edit{Payload: []byte{}, Force: true}); err != nil {
			t.Error(err)
		}
		if r, err := s.Show(t.Context(), id); err != nil || len(r.Replacement.Payload) != 0 {
			t.Errorf("got %+v %v", r, err)
		}
		if err := s.Edit(t.Context(), id+1, quarantine.Edit{}); !errors.Is(err, quarantine.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	})
}

func TestDiscardAndExpire(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		w := newWire(t)
		s := f.store(quarantine.Config{Transport: w, Retention: time.Hour, ReplayedRetention: time.Hour})
		fill(t, s, 1100)
		n, err := s.Discard(t.Context(), quarantine.Filter{IDs: []int64{list(t, s, quarantine.Filter{MessageID: "m7"})[0].ID}})
		if n != 1 || err != nil || len(list(t, s, quarantine.Filter{MessageID: "m7"})) != 0 {
			t.Errorf("got %d %v, want m7 discarded", n, err)
		}
		check(t, s)
		if n, err := s.Expire(t.Context()); n != 0 || err != nil {
			t.Errorf("%d entries have expired: %v", n, err)
		}
		replay(t, s, quarantine.Filter{IDs: []int64{list(t, s, quarantine.Filter{MessageID: "m8"})[0].ID}})
		quarantine.Past(t, f.db, 2*time.Hour)
		put(t, s, delivery("new"), errBroken)
		if n, err := s.Expire(t.Context()); n != 1099 || err != nil {
			t.Errorf("%d entries have expired: %v", n, err)
		}
		if e := one(t, s, quarantine.Filter{}); e.MessageID != "new" {
			t.Errorf("got %+v", e)
		}
		check(t, s)
		if n, err := s.Discard(t.Context(), everything); n != 1 || err != nil {
			t.Errorf("got %d %v", n, err)
		}
		check(t, s)
	})
}
