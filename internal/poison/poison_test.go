// Package poison has the test that a message which ends the process is quarantined after as many tries as one that
// returns errors, on every durable transport, and takes nothing else with it.
package poison

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/dedup"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	_ "github.com/postbus/postbus/transport/mysql"
	_ "github.com/postbus/postbus/transport/postgres"
	_ "github.com/postbus/postbus/transport/rabbitmq"
	_ "github.com/postbus/postbus/transport/sqlite"
)

const (
	// attempts is how many deliveries of a message may fail.
	attempts = 3
	// patience bounds what must happen.
	patience = 7 * time.Minute
)

// deaths are what a handler can do to its process, besides returning an error, by the name of the message that has it
// done.
var deaths = map[string]func(){
	"exit":          func() { os.Exit(3) },
	"kill":          func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} },
	"out-of-memory": func() { sink = make([]byte, 1<<46) }, // a fatal error of the runtime, which nothing recovers from
}

var sink []byte

func TestMain(m *testing.M) {
	if os.Getenv("POSTBUS_POISON_TRANSPORT") != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// step is an event: of a message that is harmless, or that its ID says what it does.
type step struct {
	ID string `json:"id"`
}

func (step) EventName() string { return "poison.step" }

// child is a program that handles messages until it is asked to end, or a message ends it. It writes a line for each try.
func child() error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	t, err := transport.Open(ctx, os.Getenv("POSTBUS_POISON_TRANSPORT"))
	if err != nil {
		return err
	}
	defer t.Close()
	db, err := store.Open(ctx, os.Getenv("POSTBUS_POISON_STORE"))
	if err != nil {
		return err
	}
	defer db.Close()
	quiet := slog.New(slog.DiscardHandler)
	var alone sync.RWMutex // who dies lets the others finish, and none begin: their fate is not what is tested
	topic := os.Getenv("POSTBUS_POISON_TOPIC")
	workers, err := strconv.Atoi(os.Getenv("POSTBUS_POISON_WORKERS"))
	if err != nil {
		return err
	}
	b, err := bus.New(bus.Config{
		Transport: t, Logger: quiet, Topic: func(string) string { return topic },
		Middleware: append([]bus.Middleware{func(next bus.Handler) bus.Handler {
			return func(ctx context.Context, d *bus.Delivery) error {
				if deaths[d.Message().ID] == nil {
					alone.RLock()
					defer alone.RUnlock()
				}
				return next(ctx, d)
			}
		}}, middleware.Standard(middleware.StandardConfig{
			Quarantine: quarantine.New(db, quarantine.Config{Logger: quiet}), Attempts: attempts,
			Dedup: dedup.New(dedup.Config{Store: db, Logger: quiet, Lease: time.Second}).Middleware,
			Retry: middleware.RetryConfig{Attempts: 1}, Log: middleware.LogConfig{Logger: quiet},
		})...),
		Groups: map[string]bus.GroupConfig{"g": {Workers: workers, MaxBackoff: 50 * time.Millisecond}},
	})
	if err != nil {
		return err
	}
	var writing sync.Mutex
	bus.Handle(b, "g", func(ctx context.Context, e step) error {
		if deaths[e.ID] != nil {
			alone.Lock()
		}
		writing.Lock()
		_, err := fmt.Println("tried", e.ID)
		writing.Unlock()
		if die := deaths[e.ID]; die != nil && err == nil {
			die()
		}
		if e.ID == "error" {
			return errors.New("as every time")
		}
		return err
	})
	return b.Run(ctx)
}

func TestPoisonIsQuarantined(t *testing.T) {
	t.Parallel()
	for name, urls := range map[string]func(t *testing.T) (transportURL, storeURL string){
		"sqlite": func(t *testing.T) (string, string) {
			at := "sqlite:" + filepath.Join(t.TempDir(), "x.db") + "?synchronous=off"
			return at + "&lease=500ms", at
		},
		"postgres": func(t *testing.T) (string, string) {
			at := testdb.New(t, testservices.Postgres(t))
			return with(at, "lease=500ms"), at
		},
		"mysql": func(t *testing.T) (string, string) {
			at := testdb.New(t, testservices.MySQL(t))
			return with(at, "lease=500ms"), at
		},
		"rabbitmq": func(t *testing.T) (string, string) {
			return testservices.RabbitMQ(t), "sqlite:" + filepath.Join(t.TempDir(), "x.db") + "?synchronous=off"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transportURL, storeURL := urls(t)
			poison(t, transportURL, storeURL)
		})
	}
}

func with(url, parameter string) string {
	if strings.Contains(url, "?") {
		return url + "&" + parameter
	}
	return url + "?" + parameter
}

// newParent returns one whose program has so many workers, and how to publish to its group.
func newParent(t *testing.T, transportURL, storeURL string, workers int) (p *parent, publish func(ids ...string)) {
	topic := fmt.Sprintf("poison%d", time.Now().UnixNano())
	tr, err := transport.Open(t.Context(), transportURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	q, err := quarantine.Open(t.Context(), storeURL, quarantine.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	sub, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: topic, Group: "g"}) // so that nothing is missed
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	publish = func(ids ...string) {
		var msgs []transport.Message
		for _, id := range ids {
			msgs = append(msgs, transport.Message{ID: id, Name: "poison.step", Payload: fmt.Appendf(nil, `{"id":%q}`, id), ContentType: "application/json"})
		}
		if err := tr.Publish(t.Context(), topic, msgs); err != nil {
			t.Fatal(err)
		}
	}
	p = &parent{T: t, q: q, tried: map[string]int{}}
	p.environ = append(os.Environ(), "POSTBUS_POISON_TRANSPORT="+transportURL, "POSTBUS_POISON_STORE="+storeURL, "POSTBUS_POISON_TOPIC="+topic,
		fmt.Sprint("POSTBUS_POISON_WORKERS=", workers))
	return p, publish
}

func poison(t *testing.T, transportURL, storeURL string) {
	p, publish := newParent(t, transportURL, storeURL, 4)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	want := map[string]int{"error": attempts}
	publish("error")
	p.until(ctx, func() bool { n, err := p.q.Count(ctx, quarantine.Filter{}); return err == nil && n == 1 })
	for n, kind := range slices.Sorted(maps.Keys(deaths)) {
		want[kind] = attempts
		var before, behind []string
		for i := range 3 {
			before, behind = append(before, fmt.Sprintf("%s-before-%d", kind, i)), append(behind, fmt.Sprintf("%s-behind-%d", kind, i))
			want[before[i]], want[behind[i]] = 1, 1
		}
		ids := slices.Concat(before, []string{kind}, behind)
		publish(ids...)
		want := 2 + n // in quarantine: one that returns errors, and those that kill
		p.until(ctx, func() bool {
			got, err := p.q.Count(ctx, quarantine.Filter{})
			return err == nil && got >= want && p.seen(ids)
		})
	}
	if fmt.Sprint(p.tried) != fmt.Sprint(want) {
		t.Errorf("tried\n%v, want\n%v", p.tried, want)
	}
	if want := attempts * len(deaths); p.died != want {
		t.Errorf("the program died %d times, want %d", p.died, want)
	}
	list, _, err := p.q.List(t.Context(), quarantine.Filter{}, quarantine.Page{})
	if err != nil || len(list) != len(deaths)+1 {
		t.Errorf("%d entries, %v", len(list), err)
	}
	for _, e := range list {
		if kills := deaths[e.MessageID] != nil; kills != strings.Contains(e.Error, "left no outcome") || !kills && e.MessageID != "error" {
			t.Errorf("%s is in quarantine because of: %s", e.MessageID, e.Error)
		}
	}
}

// TestNeighboursOfPoison has one worker meet the poison first, while all that stands behind it has been fetched.
func TestNeighboursOfPoison(t *testing.T) {
	t.Parallel()
	p, publish := newParent(t, testservices.RabbitMQ(t), "sqlite:"+filepath.Join(t.TempDir(), "x.db")+"?synchronous=off", 1)
	ids, want := []string{"kill"}, map[string]int{"kill": attempts}
	for i := range 20 {
		id := fmt.Sprint("behind-", i)
		ids, want[id] = append(ids, id), 1
	}
	publish(ids...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p.until(ctx, func() bool {
		n, err := p.q.Count(ctx, quarantine.Filter{})
		return err == nil && (n > 1 || n == 1 && p.seen(ids))
	})
	if fmt.Sprint(p.tried) != fmt.Sprint(want) {
		t.Errorf("tried\n%v, want\n%v", p.tried, want)
	}
	list, _, err := p.q.List(t.Context(), quarantine.Filter{}, quarantine.Page{})
	if err != nil || len(list) != 1 || list[0].MessageID != "kill" {
		t.Errorf("in quarantine: %v, %v", list, err)
	}
}

// parent runs the program.
type parent struct {
	*testing.T
	environ []string
	q       *quarantine.Store
	died    int

	mu    sync.Mutex
	tried map[string]int
}

// until runs the program, anew whenever it dies, until done reports true; then the program must end well when it is asked to.
func (p *parent) until(ctx context.Context, done func() bool) {
	p.Helper()
	for !p.run(ctx, done) && ctx.Err() == nil {
		p.died++
	}
	if ctx.Err() != nil {
		p.Errorf("not within %v", patience)
	}
}

// seen reports whether all have been tried.
func (p *parent) seen(ids []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.ContainsFunc(ids, func(id string) bool { return p.tried[id] == 0 })
}

// run runs the program once, and reports whether it ended because it was done.
func (p *parent) run(ctx context.Context, done func() bool) bool {
	p.Helper()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = p.environ
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for s := bufio.NewScanner(out); s.Scan(); {
			if id, ok := strings.CutPrefix(s.Text(), "tried "); ok {
				p.mu.Lock()
				p.tried[id]++
				p.mu.Unlock()
			}
		}
	}()
	asked := false
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-over:
			err := cmd.Wait()
			if asked && err != nil && ctx.Err() == nil {
				p.Errorf("the program did not end well: %v\n%s", err, &stderr)
			}
			if code := cmd.ProcessState.ExitCode(); !asked && (code == 0 || code == 1) {
				p.Fatalf("the program ended by itself: %v\n%s", err, &stderr)
			}
			return asked
		case <-tick.C:
			if !asked && done() {
				asked = true
				_ = cmd.Process.Signal(syscall.SIGTERM)
			}
		}
	}
}
