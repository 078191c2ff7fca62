package bus

import (
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var uuid7 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestIDsAreUUIDv7AndGrow(t *testing.T) {
	t.Parallel()
	var s idSource
	now, last := time.UnixMilli(0x0123456789ab), ""
	for i := range 5000 {
		switch i % 1000 {
		case 500:
			now = now.Add(time.Millisecond)
		case 900:
			now = now.Add(-10 * time.Millisecond) // set back
		}
		id := s.next(now)
		if !uuid7.MatchString(id) {
			t.Fatalf("%q is no UUIDv7", id)
		}
		if id <= last {
			t.Fatalf("%q after %q", id, last)
		}
		last = id
	}
	if id := new(idSource).next(time.UnixMilli(0x0123456789ab)); !strings.HasPrefix(id, "01234567-89ab-7") {
		t.Errorf("%q does not begin with its time", id)
	}
}

// TestIDsCarryOver: the counter runs over all its digits, and leaves the version and the variant alone.
func TestIDsCarryOver(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1)
	for _, lo := range []uint64{1<<63 | 0xf, 1<<63 | 0xffff_ffff_ffff, 1<<63 | 0xff_ffff_ffff_ffff} {
		s := idSource{milli: 1, hi: 1<<16 | 0x7fff, lo: lo}
		s.format()
		before := string(s.text[:])
		after := s.next(now)
		want := idSource{hi: s.hi, lo: lo + 1}
		want.format()
		if after != string(want.text[:]) || after <= before || !uuid7.MatchString(after) {
			t.Errorf("%q after %q, want %q", after, before, want.text[:])
		}
	}
}

func TestIDsOfManyPublishersDiffer(t *testing.T) {
	t.Parallel()
	var (
		mu    sync.Mutex
		seen  = map[string]bool{}
		group sync.WaitGroup
	)
	now := time.Now()
	for range 8 {
		group.Go(func() {
			var s idSource
			for range 2000 {
				id := s.next(now)
				mu.Lock()
				if seen[id] {
					t.Errorf("%q twice", id)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	group.Wait()
}

func TestClockIsNeverMuchLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		for _, pause := range []time.Duration{0, 1, clockStep / 2, clockStep - 1, clockStep + 1, time.Hour, 1} {
			time.Sleep(pause)
			synctest.Wait()
			if late := time.Since(c.read()); late < 0 || late > clockStep {
				t.Errorf("after a pause of %v: %v late", pause, late)
			}
		}
	})
}
