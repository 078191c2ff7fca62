// Package sqllogtest holds the tests that the drivers over package sqllog share: crashes, leases, attempts, delays.
package sqllogtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// Suite says where the database of the tests is.
type Suite struct {
	// URL is the database; all tests share it, each with topics of its own.
	URL func(t testing.TB) string
	// Clock is how coarse created_at is. Default: 10 ms.
	Clock time.Duration
	// Rows counts the rows in the table of a topic whose name stands as it is.
	Rows func(t testing.TB, url, topic string) int
}

// Run runs all tests.
func (s Suite) Run(t *testing.T) {
	for name, test := range map[string]func(*fixture){
		"ExactAcksSurviveARestart":     exactAcks,
		"AKillerIsFoundAndTheRestGoOn": killer,
		"AKilledConsumerIsReplaced":    replaced,
		"APausedConsumerCannotAck":     paused,
		"TargetedAndDelayed":           laterMessages,
		"ATargetedKillerIsCounted":     targetedKiller,
		"ABrokenTopicHoldsUpNoOther":   brokenTopic,
		"NothingIsHeldWhileHandling":   nothingHeld,
		"ARollbackLeavesNoGap":         rolledBack,
		"AnotherProcessMovesWhatIsDue": orphaned,
		"StartsWhereItIsTold":          starts,
		"PartitionsKeepTheOrderOfKeys": partitions,
		"PartitionsCanChange":          repartition,
		"PartitionsAreShared":          shared,
		"PartitionsThatCannotChange":   repartitionFails,
		"ABadLaterRowWaitsAlone":       badLaterRows,
		"ABadRowFailsAlone":            badRows,
		"AKilledMemberIsReplaced":      memberKilled,
		"OldMessagesAreRemoved":        retention,
		"StatusTells":                  status,
		"StatusOfOthersTells":          statusOfOthers,
		"NamesAreIsolated":             names,
		"ManyConstructorsAtOnce":       constructors,
		"ManyPublishersAtOnce":         publishers,
		"LongBacklogInOrder":           backlog,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(&fixture{T: t, url: s.URL(t), topic: Unique("tab"), rows: s.Rows, clock: max(s.Clock, 10*time.Millisecond)})
		})
	}
}

var counter atomic.Int64

// Unique returns a name that no other test has.
func Unique(prefix string) string {
	return fmt.Sprintf("%s_%d_%d", prefix, time.Now().UnixNano(), counter.Add(1))
}

type fixture struct {
	*testing.T
	url, topic string
	clock      time.Duration
	rows       func(t testing.TB, url, topic string) int
}

func with(rawURL, query string) string {
	if query == "" {
		return rawURL
	}
	if strings.Contains(rawURL, "?") {
		return rawURL + "&" + query
	}
	return rawURL + "?" + query
}

func (f *fixture) open(query string) transport.Transport {
	f.Helper()
	tr, err := transport.Open(f.Context(), with(f.url, query))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := tr.Close(); err != nil {
			f.Error(err)
		}
	})
	return tr
}

func (f *fixture) publish(tr transport.Transport, msgs ...transport.Message) {
	f.Helper()
	if err := tr.Publish(f.Context(), f.topic, msgs); err != nil {
		f.Fatal(err)
	}
}

func message(id string) transport.Message {
	return transport.Message{ID: id, Name: "a.b", Time: time.Now(), Payload: []byte(fmt.Sprintf(`{"id":%q}`, id))}
}

func messages(from, to int) []transport.Message {
	var msgs []transport.Message
	for i := from; i < to; i++ {
		msgs = append(msgs, message(fmt.Sprint(i)))
	}
	return msgs
}

func (f *fixture) subscribe(tr transport.Transport, cfg transport.SubscribeConfig) *consumer {
	f.Helper()
	if cfg.Topic == "" {
		cfg.Topic = f.topic
	}
	if cfg.Group == "" {
		cfg.Group = "g"
	}
	s, err := tr.Subscribe(f.Context(), cfg)
	if err != nil {
		f.Fatal(err)
	}
	return &consumer{f, s}
}

type consumer struct {
	f *fixture
	transport.Subscription
}

// patience bounds every wait of a test for what must happen.
const patience = 2 * time.Minute

func (c *consumer) receive(n int) []transport.Delivery {
	c.f.Helper()
	ctx, cancel := context.WithTimeout(c.f.Context(), patience)
	defer cancel()
	var all []transport.Delivery
	for len(all) < n {
		got, err := c.Receive(ctx, n-len(all))
		if err != nil {
			c.f.Fatalf("after %d of %d: %v: %s", len(all), n, err, ids(all))
		}
		all = append(all, got...)
	}
	return all
}

// nothing checks that there is nothing to receive for a while.
func (c *consumer) nothing(d time.Duration) {
	c.f.Helper()
	ctx, cancel := context.WithTimeout(c.f.Context(), d)
	defer cancel()
	if got, err := c.Receive(ctx, 10); err == nil {
		c.f.Errorf("received %s, want nothing", ids(got))
	}
}

func (c *consumer) settle(outcome transport.Outcome, ds ...transport.Delivery) {
	c.f.Helper()
	var x []transport.Settlement
	for _, d := range ds {
		x = append(x, transport.Settlement{Tag: d.Tag, Outcome: outcome})
	}
	if err := c.Settle(c.f.Context(), x); err != nil {
		c.f.Fatal(err)
	}
}

func (c *consumer) ack(ds ...transport.Delivery) { c.f.Helper(); c.settle(transport.Ack, ds...) }

// ids shows each delivery as id/attempt.
func ids(ds []transport.Delivery) string {
	var b strings.Builder
	for i, d := range ds {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s/%d", d.ID, d.Attempt)
	}
	return b.String()
}

func (f *fixture) want(got, want string) {
	f.Helper()
	if got != want {
		f.Errorf("got  %s\nwant %s", got, want)
	}
}

const (
	childURL   = "POSTBUS_SQLLOG_CHILD_URL"
	childTopic = "POSTBUS_SQLLOG_CHILD_TOPIC"
	childMode  = "POSTBUS_SQLLOG_CHILD_MODE"
)

// Child does the work of a child process and exits, if this process is one. TestMain calls it first.
func Child() {
	if os.Getenv(childURL) == "" {
		return
	}
	ctx := context.Background()
	tr, err := transport.Open(ctx, os.Getenv(childURL))
	check(err)
	s, err := tr.Subscribe(ctx, transport.SubscribeConfig{Topic: os.Getenv(childTopic), Group: "g", Prefetch: 8})
	check(err)
	for {
		ds, err := s.Receive(ctx, 8)
		check(err)
		for _, d := range ds {
			fmt.Printf("%s/%d\n", d.ID, d.Attempt)
			if os.Getenv(childMode) == "hold" {
				continue
			}
			if strings.HasPrefix(d.ID, "killer") && d.Attempt < 3 {
				os.Exit(3)
			}
			check(s.Settle(ctx, []transport.Settlement{{Tag: d.Tag, Outcome: transport.Ack}}))
		}
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(4)
	}
}

type child struct {
	cmd   *exec.Cmd
	lines chan string
}

func (f *fixture) child(query, mode string) *child {
	f.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childURL+"="+with(f.url, query), childTopic+"="+f.topic, childMode+"="+mode)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	c := &child{cmd, make(chan string, 1000)}
	go func() {
		defer close(c.lines)
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				_, _ = io.Copy(io.Discard, r)
				return
			}
			c.lines <- strings.TrimSpace(line)
		}
	}()
	f.Cleanup(c.kill)
	return c
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	for range c.lines {
	}
	_ = c.cmd.Wait()
}

// read returns the next n lines, or fewer if the child ends.
func (c *child) read(f *fixture, n int) string {
	f.Helper()
	var all []string
	timeout := time.After(patience)
	for len(all) < n {
		select {
		case line, ok := <-c.lines:
			if !ok {
				return strings.Join(all, " ")
			}
			all = append(all, line)
		case <-timeout:
			f.Fatalf("the child said only %q", all)
		}
	}
	return strings.Join(all, " ")
}

// CountRows is a Rows for the databases of package store.
func CountRows(quote string) func(t testing.TB, url, topic string) int {
	return func(t testing.TB, url, topic string) (n int) {
		t.Helper()
		db, err := store.Open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.SQL().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+quote+"watermill_"+topic+quote).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
}
