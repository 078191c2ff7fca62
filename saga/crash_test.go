package saga_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/store"
)

// TestTwoOrchestrators: several programs work on the same instances, and each effect is there once.
func TestTwoOrchestrators(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		const programs, instances = 3, 9
		var last *program
		for range programs {
			def, child := f.whole(0)
			def.Steps[0].Do = flaky(def.Steps[0].Do)
			def.Steps[0].Retry.MinBackoff = time.Millisecond // the pollers of all have work, too
			last = f.start(saga.Config{Sagas: []saga.Saga{def, child}}, payments)
		}
		for i := range instances {
			last.publish(placed{key(i)}, placed{key(i)})
		}
		for i := range instances {
			last.checkEnd(f, i)
		}
	})
}

// TestRepliesAtOnce: two replies for one instance, on topics of their own, do not overwrite what the other has done.
func TestRepliesAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		const instances = 20
		def := simple()
		const long = 20 * time.Millisecond // enough for the other reply to come in between
		def.Steps[1].Await = saga.AllReplies(
			saga.Continue(func(o *order, e captured) error { time.Sleep(long); return nil }),
			saga.Continue(func(o *order, e packed) error { time.Sleep(long); return nil }))
		p := f.start(saga.Config{Sagas: []saga.Saga{def}}, nil)
		var first, second []bus.Event
		for i := range instances {
			p.publish(placed{key(i)})
			first, second = append(first, captured{key(i)}), append(second, packed{key(i)})
		}
		for i := range instances {
			p.untilStep("checkout", key(i), saga.Running, "charge")
		}
		done := make(chan error, 2)
		for _, events := range [][]bus.Event{first, second} {
			go func() { done <- p.bus.Publish(t.Context(), events...) }()
		}
		if err := errors.Join(<-done, <-done); err != nil {
			t.Fatal(err)
		}
		for i := range instances {
			p.until("checkout", key(i), saga.Completed)
		}
	})
}

// flaky fails every other attempt.
func flaky(do func(context.Context, *saga.Run[order]) error) func(context.Context, *saga.Run[order]) error {
	return func(ctx context.Context, r *saga.Run[order]) error {
		if r.Attempt()%2 == 1 {
			return errors.New("not the first time")
		}
		return do(ctx, r)
	}
}

func key(i int) string { return map[bool]string{true: "d", false: "g"}[i%3 == 0] + strconv.Itoa(i) }

// checkEnd waits for the end of an instance, and compares what was done.
func (p *program) checkEnd(f *fixture, i int) {
	f.t.Helper()
	status, want := saga.Completed, []string{"insure", "pack", "pick", "reserve", "ship"}
	if i%3 == 0 {
		status, want = saga.Compensated, []string{"insure", "pack", "pick", "put back", "refund", "release", "reserve", "unpack"}
	}
	p.until("checkout", key(i), status)
	p.until("delivery", "c-"+key(i), status)
	got := append(f.effects(key(i)), f.effects("c-"+key(i))...)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		f.t.Errorf("%s: effects %q, want %q: %s", key(i), got, want, p.story("checkout", key(i)))
	}
}

const childVariable = "POSTBUS_SAGA_TEST_CHILD"

// child is a program in a process of its own, if this one is that.
func child() {
	rawURL := os.Getenv(childVariable)
	if rawURL == "" {
		return
	}
	ctx := context.Background()
	db, err := store.Open(ctx, rawURL)
	if err == nil {
		f := &fixture{dialect: db.Dialect()}
		err = f.serve(ctx, db)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func (f *fixture) serve(ctx context.Context, db *store.DB) error {
	tr, err := openTransport(ctx, f.dialect, db)
	if err != nil {
		return err
	}
	b, err := bus.New(bus.Config{Transport: tr, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	box := outbox.New(db, outbox.Config{Transport: tr})
	def, child := f.whole(5 * time.Millisecond)
	o, err := saga.New(b, box, saga.Config{Sagas: []saga.Saga{def, child}, PollInterval: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	payments(b, box)
	if err := errors.Join(o.Start(ctx), b.Start(ctx)); err != nil {
		return err
	}
	fmt.Println("started")
	select {}
}

// whole is a saga of steps of each kind, with its child, that take a little time.
func (f *fixture) whole(pause time.Duration) (saga.Definition[order], saga.Definition[delivery]) {
	step := func(do, undo string) saga.Step[order] { return effectStep[order](f, pause, do, undo) }
	child := saga.Definition[delivery]{Name: "delivery", Steps: []saga.Step[delivery]{effectStep[delivery](f, pause, "pick", "put back")}}
	charge := effectStep[order](f, pause, "", "refund")
	charge.Name, charge.Do, charge.Await, charge.Timeout = "charge", request, payment, time.Hour
	ship := step("ship", "")
	ship.Pivot = true
	return saga.Definition[order]{Name: "checkout", Start: begin, Steps: []saga.Step[order]{
		step("reserve", "release"),
		{Name: "prepare", Parallel: []saga.Step[order]{step("pack", "unpack"), step("insure", "")}},
		{Name: "deliver", MayWaitForever: true, Child: saga.StartChild(child,
			func(o *order) (string, delivery) { return "c-" + o.ID, delivery{Order: o.ID} }, nil)},
		charge, ship,
	}}, child
}

// effectStep is a step whose functions write what they do.
func effectStep[S any](f *fixture, pause time.Duration, do, undo string) saga.Step[S] {
	effect := func(what string) func(context.Context, *saga.Run[S]) error {
		if what == "" {
			return nil
		}
		return func(ctx context.Context, r *saga.Run[S]) error {
			time.Sleep(pause)
			_, err := r.Tx().ExecContext(ctx, f.dialect.Bind("INSERT INTO effects (inst, what) VALUES (?, ?)"), r.Key(), what)
			return err
		}
	}
	return saga.Step[S]{Name: do, Do: effect(do), Undo: effect(undo)}
}

// TestKill kills the process at random moments, and in the end each effect is there once.
func TestKill(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		const instances = 20
		kills := 3
		p, stop := f.startStoppable(saga.Config{Sagas: []saga.Saga{otherSaga()}}, nil)
		for i := range instances {
			p.publish(placed{key(i)})
		}
		stop()
		if testing.Short() {
			kills = 1
		}
		for range kills {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), childVariable+"="+f.url)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			line := make([]byte, 100)
			if n, err := out.Read(line); err != nil || !strings.HasPrefix(string(line[:n]), "started") {
				t.Fatalf("the child: %v\n%s", err, stderr.String())
			}
			timer := time.NewTimer(rand.N(300 * time.Millisecond))
			<-timer.C
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
		}
		def, child := f.whole(0)
		p = f.start(saga.Config{Sagas: []saga.Saga{def, child}}, payments)
		for i := range instances {
			p.checkEnd(f, i)
		}
	})
}

// otherSaga is one that no event of the test is for.
func otherSaga() saga.Definition[delivery] {
	return saga.Definition[delivery]{Name: "other", Steps: []saga.Step[delivery]{
		{Name: "x", Do: func(context.Context, *saga.Run[delivery]) error { return nil }},
	}}
}
