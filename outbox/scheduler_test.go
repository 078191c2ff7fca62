package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// ticked is the event of a schedule.
type ticked struct{ At time.Time }

func (ticked) EventName() string { return "clock.ticked" }

func tick(at time.Time) bus.Event { return ticked{at} }

// TestScheduler: of many instances, with databases handles of their own, each tick is published by one, in time.
func TestScheduler(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		const instances, ticks = 4, 3
		for range instances {
			box := outbox.New(f.open(), outbox.Config{})
			s, err := outbox.NewScheduler(box, outbox.Recurring{Name: "second", Cron: "@every 1s", Event: tick})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := errors.Join(s.Stop(context.Background()), s.Stop(context.Background())); err != nil {
					t.Error(err)
				}
			})
		}
		r := f.forwarded(t, ticks)
		seen := map[string]bool{}
		for i, m := range r {
			if seen[m.ID] || !strings.HasPrefix(m.ID, "second@") {
				t.Errorf("message %d: id %q", i, m.ID)
			}
			seen[m.ID] = true
		}
	})
}

// TestSchedulerOverSilence: a connection that falls silent within a transaction is given up, and ticks go on over another
// one.
func TestSchedulerOverSilence(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.MySQL)
	silencer := testservices.NewSilencer(t, f.url)
	far := *f
	far.url = silencer.URL
	var silence sync.Once
	s, err := outbox.NewScheduler(outbox.New(far.open(), outbox.Config{Logger: quiet}), outbox.Recurring{Name: "second", Cron: "@every 1s",
		Event: func(at time.Time) bus.Event {
			silence.Do(silencer.Silence)
			return ticked{at}
		}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ticks after the silence", func() bool { return f.count("SELECT COUNT(*) FROM "+f.outboxTable()) > 1 })
	silencer.Close()
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestSchedulerMissedTicks: after a time without any instance one tick is made up for, the last.
func TestSchedulerMissedTicks(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		var mu sync.Mutex
		var at []time.Time
		start := func(spec string) {
			s, err := outbox.NewScheduler(outbox.New(f.db, outbox.Config{}), outbox.Recurring{Name: "hourly", Cron: spec,
				Event: func(tick time.Time) bus.Event {
					mu.Lock()
					defer mu.Unlock()
					at = append(at, tick)
					return ticked{tick}
				}})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.Start(t.Context()), s.Stop(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		hourly := fmt.Sprint((time.Now().Minute()+30)%60, " * * * *") // not just now
		start(hourly)
		if len(at) != 0 {
			t.Fatalf("a tick at the first start: %v", at)
		}
		f.exec("UPDATE postbus_recurring SET next_ms = next_ms - ?", 24*3600*1000*90)
		start(hourly)
		start(hourly)
		if len(at) != 1 || time.Since(at[0]) > time.Hour {
			t.Fatalf("ticks %v, want that of the last hour alone", at)
		}
		f.exec("UPDATE postbus_recurring SET next_ms = next_ms - ?", 24*3600*1000)
		start("@daily") // a changed schedule begins anew
		if len(at) != 1 {
			t.Errorf("ticks %v after a change", at)
		}
	})
}

func TestSchedulerMistakes(t *testing.T) {
	t.Parallel()
	box := outbox.New(nil, outbox.Config{})
	_, err := outbox.NewScheduler(box,
		outbox.Recurring{Name: "", Cron: "@daily", Event: tick},
		outbox.Recurring{Name: "a", Cron: "every day", Event: tick},
		outbox.Recurring{Name: "b", Cron: "@daily"},
		outbox.Recurring{Name: "c", Cron: "0 0 30 2 *", Event: tick},
		outbox.Recurring{Name: "d", Cron: "@daily", Event: tick},
		outbox.Recurring{Name: "d", Cron: "@daily", Event: tick},
	)
	for _, want := range []string{`schedule ""`, `Cron "every day"`, `"b" has no Event`, "never comes", `two schedules are named "d"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	if _, err := outbox.NewScheduler(nil); !errors.Is(err, bus.ErrInvalid) {
		t.Errorf("without a Box: %v", err)
	}
}

// TestSchedulerBadEvent: an event that cannot be made holds up neither the others nor Stop.
func TestSchedulerBadEvent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, dialects[len(dialects)-1])
	var out lockedBuilder
	box := outbox.New(f.db, outbox.Config{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	s, err := outbox.NewScheduler(box,
		outbox.Recurring{Name: "bad", Cron: "@every 1s", Event: func(time.Time) bus.Event { panic("no event") }},
		outbox.Recurring{Name: "good", Cron: "@every 1s", Event: tick})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.forwarded(t, 2)
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "no event") {
		t.Errorf("the log lacks the panic: %s", out.String())
	}
}

type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// forwarded waits until there are n messages in the outbox, and returns them.
func (f *fixture) forwarded(t *testing.T, n int) (all []transport.Message) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		rows, err := f.db.SQL().QueryContext(t.Context(), "SELECT uuid FROM watermill_postbus_outbox")
		if err != nil {
			t.Fatal(err)
		}
		all = nil
		for rows.Next() {
			var m transport.Message
			if err := rows.Scan(&m.ID); err != nil {
				t.Fatal(err)
			}
			all = append(all, m)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if len(all) >= n {
			return all
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages after %v, want %d", len(all), patience, n)
		}
	}
}

func ExampleScheduler() {
	report := outbox.Recurring{
		Name: "daily-report", Cron: "30 6 * * MON-FRI", Location: time.Local,
		Event: func(tick time.Time) bus.Event { return ticked{tick} },
	}
	_, err := outbox.NewScheduler(outbox.New(nil, outbox.Config{}), report)
	fmt.Println(err)
	// Output: <nil>
}
