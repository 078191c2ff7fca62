package outbox_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// kills is how often the process is killed at random, per database; on a machine that takes longer than killing for that,
// a quarter may have to do.
const (
	kills   = 200
	killing = time.Minute
)

// TestKill kills a process at each point, and then at random, again and again; after that the books must be in order.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, d := range []store.Dialect{store.Postgres, store.SQLite} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			newShop(newFixture(t, d)).killAndAudit(kills)
		})
	}
}

// killAndAudit kills at each point, and then at random.
func (f *killed) killAndAudit(kills int) {
	f.t.Helper()
	for _, point := range []string{"committed", "publish", "confirmed", "mark", "marked", "handler", "handled"} {
		for _, times := range []int{1, 6} {
			f.kill(job{Point: point, Times: times})
		}
	}
	for n, begun := 0, time.Now(); n < kills && (n < kills/4 || time.Since(begun) < killing); n++ {
		f.kill(job{})
	}
	b := f.settle()
	f.t.Logf("%d kills: %+v", f.lives, b)
	if limit := killBatch * f.lives; b.lost != 0 || b.invented != 0 || b.doubled != 0 || b.duplicates > limit {
		f.t.Errorf("after %d kills: %+v; want none lost, invented or doubled, and at most %d duplicates", f.lives, b, limit)
	}
	if b.orders < f.lives {
		f.t.Errorf("%d orders in %d lives: the processes did nothing", b.orders, f.lives)
	}
}

// TestKillSeesFaults: what is done wrong is seen in the books.
func TestKillSeesFaults(t *testing.T) {
	t.Parallel()
	for fault, tc := range map[string]struct {
		point string
		seen  func(books) int
	}{
		markFirst:  {"marked", func(b books) int { return b.lost }},
		ackFirst:   {"handler", func(b books) int { return b.lost }},
		noInbox:    {"handled", func(b books) int { return b.doubled }},
		dualWrites: {"cancelled", func(b books) int { return b.invented }},
	} {
		for _, d := range []store.Dialect{store.Postgres, store.SQLite} {
			t.Run(fmt.Sprint(fault, " on ", d), func(t *testing.T) {
				t.Parallel()
				f := newShop(newFixture(t, d))
				for {
					f.kill(job{Point: tc.point, Times: 3, Fault: fault})
					if b := f.settle(); tc.seen(b) > 0 {
						break
					} else if f.lives == 20 { // what is lost is mended where the message comes again
						t.Fatalf("not seen that %s: %+v", fault, b)
					}
				}
			})
		}
	}
}

// TestBooksBeforeThereIsAnything: a topic that nobody has published to has no table.
func TestBooksBeforeThereIsAnything(t *testing.T) {
	t.Parallel()
	for _, d := range []store.Dialect{store.Postgres, store.SQLite} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			if b := newShop(newFixture(t, d)).settle(); b != (books{}) {
				t.Errorf("got %+v", b)
			}
		})
	}
}

// killed is a database whose processes are killed.
type killed struct {
	*fixture
	tail  bool
	lives int
}

func newShop(on *fixture) *killed {
	f := &killed{fixture: on}
	f.exec("CREATE TABLE charges (id varchar(100))")
	return f
}

// kill has a process live and die.
func (f *killed) kill(j job) {
	f.t.Helper()
	f.lives++
	j.URL, j.Prefix, j.Tail = f.url, fmt.Sprint("o", f.lives), f.tail
	text, err := json.Marshal(j)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); j.Point == "" {
		if err != nil {
			f.t.Fatalf("life %d: %q, %v; it said:\n%s", f.lives, line, err, &said)
		}
		time.Sleep(rand.N(40 * time.Millisecond)) // the time of its death is the test
		if err := cmd.Process.Kill(); err != nil {
			f.t.Fatal(err)
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL || ctx.Err() != nil {
		f.t.Fatalf("life %d, %+v: ended with %v, want a kill; it said:\n%s", f.lives, j, err, &said)
	}
	f.exec("UPDATE postbus_groups SET expires_ms = 0") // as time would have it
}

// settle lets a process of today finish what the dead have left, and audits the books.
func (f *killed) settle() books {
	f.t.Helper()
	s, err := open(f.t.Context(), &job{URL: f.url, Tail: f.tail}, func(string) {})
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() {
		if err := s.close(context.Background()); err != nil {
			f.t.Error(err)
		}
	}()
	idle := 0
	var last []transport.GroupStatus
	defer func() {
		if f.t.Failed() {
			f.t.Logf("at the end: %+v", last)
		}
	}()
	done := func() bool {
		waiting, err := s.forwarder.Status(f.t.Context())
		if err != nil {
			f.t.Fatal(err)
		}
		groups, err := s.tr.(transport.StatusReporter).Status(f.t.Context())
		if err != nil {
			f.t.Fatal(err)
		}
		idle++
		last = append(waiting, groups...)
		for _, g := range last {
			if g.Lag > 0 || g.Err != nil {
				idle = 0
			}
		}
		return idle > 2 // what is handled can add to what is to be forwarded
	}
	within(f.t, 10*patience, "all is forwarded and handled", done)
	return f.audit()
}

// books say what became of the orders. Their tables are beside the topics, in which each message is one that was on the
// wire.
type books struct {
	orders     int
	lost       int // committed, and not published or not charged
	invented   int // published, and not committed
	doubled    int // charged twice
	duplicates int // published again
}

func (f *killed) audit() books {
	f.t.Helper()
	payments := "watermill_payments"
	if f.count("SELECT COUNT(*) FROM postbus_topics WHERE topic = 'payments'") == 0 { // nothing was ever paid
		payments = "(SELECT id AS uuid FROM business WHERE 1 = 0) AS none"
	}
	return books{
		orders: f.count("SELECT COUNT(*) FROM business"),
		lost: f.missing("id", "business", "uuid", "watermill_orders") + f.missing("id", "business", "id", "charges") +
			f.missing("id || '-paid'", "charges", "uuid", payments),
		invented: f.missing("uuid", "watermill_orders", "id", "business") +
			f.missing("uuid", payments, "id || '-paid'", "charges"),
		doubled:    f.again("id", "charges"),
		duplicates: f.again("uuid", "watermill_orders") + f.again("uuid", payments),
	}
}

// missing counts rows whose value is not in another table.
func (f *killed) missing(value, table, other, in string) int {
	return f.count("SELECT COUNT(*) FROM " + table + " WHERE " + value + " NOT IN (SELECT " + other + " FROM " + in + ")")
}

// again counts rows whose value is not new.
func (f *killed) again(value, table string) int {
	return f.count("SELECT COUNT(*) - COUNT(DISTINCT " + value + ") FROM " + table)
}
