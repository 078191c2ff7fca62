package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/sqltext"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// Recurring is an event that is published again and again, by the clock.
type Recurring struct {
	// Name is the durable name of the schedule in the database of the Box. Required.
	Name string
	// Cron says when: minute, hour, day of month, month and day of week, as in crontab(5), or "@hourly", "@daily",
	// "@every 90s" and the like. Required. A changed one begins anew, at the time of the change.
	Cron string
	// Location is where the clock hangs that Cron speaks of. Default: UTC. Where clocks are set forward, a time that does
	// not exist is left out; where they are set back, one that exists twice counts once.
	Location *time.Location
	// Event makes the event of a tick. It is published under the id "Name@time", so that a tick has one id wherever it is
	// published. Required.
	Event func(tick time.Time) bus.Event
}

// recurring is a Recurring that was checked.
type recurring struct {
	Recurring
	schedule cron.Schedule
	spec     string // as it stands in the database
	wake     time.Time
}

func (r Recurring) check() (*recurring, error) {
	if err := transport.CheckName("schedule", r.Name); err != nil {
		return nil, err
	}
	if r.Event == nil {
		return nil, fmt.Errorf("%w: schedule %q has no Event", bus.ErrInvalid, r.Name)
	}
	if r.Location == nil {
		r.Location = time.UTC
	}
	schedule, err := cron.ParseStandard(r.Cron)
	if err != nil {
		return nil, fmt.Errorf("%w: schedule %q: Cron %q: %w", bus.ErrInvalid, r.Name, r.Cron, err)
	}
	c := &recurring{Recurring: r, schedule: schedule, spec: r.Cron + " " + r.Location.String()}
	if c.next(time.Now()).IsZero() {
		return nil, fmt.Errorf("%w: schedule %q: Cron %q never comes", bus.ErrInvalid, r.Name, r.Cron)
	}
	if len(c.spec) > 255 {
		return nil, fmt.Errorf("%w: schedule %q: Cron %.40q… is too long", bus.ErrInvalid, r.Name, r.Cron)
	}
	return c, nil
}

// next returns the first tick after t.
func (r *recurring) next(t time.Time) time.Time { return r.schedule.Next(t.In(r.Location)) }

// last returns the last tick that is not after now, given one of them.
func (r *recurring) last(tick, now time.Time) time.Time {
	// Not one by one from a tick that may be months ago.
	for back := time.Minute; now.Add(-back).After(tick); back *= 2 {
		if t := r.next(now.Add(-back)); !t.After(now) {
			tick = t
			break
		}
	}
	for {
		t := r.next(tick)
		if t.IsZero() || t.After(now) {
			return tick
		}
		tick = t
	}
}

// event makes the event of a tick. That is the program's code: a panic is an error here.
func (r *recurring) event(tick time.Time) (e bus.Event, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = bus.Permanent(fmt.Errorf("the function Event panicked: %v\n%s", p, debug.Stack()))
		}
	}()
	if e = r.Event(tick); e == nil {
		err = bus.Permanent(fmt.Errorf("%w: Event returned nil", bus.ErrInvalid))
	}
	return e, err
}

// longestSleep is after how long at most a Scheduler looks again: another program may have changed what it knows.
const longestSleep = time.Minute

// fire publishes the event of the tick that is due, if there is one, and sets r.wake. Of ticks that were missed, because
// no instance ran, the last is made up for.
func (b *Box) fire(ctx context.Context, r *recurring) error {
	var now, next time.Time
	err := b.Tx(ctx, func(tx *Tx) error {
		var err error
		var at int64
		var spec string
		err = tx.SQL().QueryRowContext(ctx, b.bind(`SELECT next_ms, spec FROM postbus_recurring WHERE name = ?`+b.forUpdate()), r.Name).Scan(&at, &spec)
		known := err == nil
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if now, err = b.now(ctx, tx); err != nil { // once the row is locked: waiting for that takes time
			return err
		}
		tick := time.UnixMilli(at)
		if known && spec == r.spec && tick.After(now) {
			next = tick
			return nil
		}
		next = r.next(now)
		if !known || spec != r.spec {
			q := "INSERT INTO postbus_recurring (next_ms, spec, name) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
			switch {
			case known:
				q = "UPDATE postbus_recurring SET next_ms = ?, spec = ? WHERE name = ?"
			case b.db.Dialect() == store.MySQL:
				q = "INSERT IGNORE INTO postbus_recurring (next_ms, spec, name) VALUES (?, ?, ?)"
			}
			_, err := tx.ExecContext(ctx, b.bind(q), next.UnixMilli(), r.spec, r.Name)
			return err
		}
		if _, err := tx.ExecContext(ctx, b.bind("UPDATE postbus_recurring SET next_ms = ? WHERE name = ?"), next.UnixMilli(), r.Name); err != nil {
			return err
		}
		tick = r.last(tick, now).In(r.Location)
		e, err := r.event(tick)
		if err != nil {
			return err
		}
		return tx.Publish(ctx, bus.WithID(r.Name+"@"+tick.UTC().Format(time.RFC3339), e))
	})
	if err != nil {
		return fmt.Errorf("outbox: schedule %q: %w", r.Name, err)
	}
	r.wake = time.Now().Add(min(next.Sub(now), longestSleep))
	return nil
}

// now returns the time by the clock of the database, so that instances agree.
func (b *Box) now(ctx context.Context, tx *Tx) (time.Time, error) {
	var ms int64
	err := tx.QueryRowContext(ctx, "SELECT "+sqltext.Now(b.db.Dialect())).Scan(&ms)
	return time.UnixMilli(ms), err
}

// bind writes "?" as the database wants arguments.
func (b *Box) bind(q string) string { return sqltext.Bind(b.db.Dialect(), q) }

func (b *Box) forUpdate() string {
	if b.db.Dialect() == store.SQLite { // its transactions are alone
		return ""
	}
	return " FOR UPDATE"
}
