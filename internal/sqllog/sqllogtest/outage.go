package sqllogtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/transport"
)

// Outage takes the server away in the middle of the work and brings it back. A publish either succeeded, or tells
// whether its outcome is unknown; what succeeded is delivered, what certainly failed is not, and deliveries go on soon
// after the server's return.
func Outage(t *testing.T, url string, stop, start func()) {
	t.Helper()
	f := &fixture{T: t, url: url, topic: Unique("outage")}
	tr := f.open("lease=2s")
	c := f.subscribe(tr, transport.SubscribeConfig{Prefetch: 50})

	var mu sync.Mutex
	sent, unknown, refused := map[string]bool{}, map[string]bool{}, map[string]bool{}
	seen, last := map[string]bool{}, time.Time{}
	quit := make(chan struct{})
	var wg, consuming sync.WaitGroup
	for p := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-quit:
					return
				case <-time.After(2 * time.Millisecond):
				}
				id := fmt.Sprintf("%d-%d", p, i)
				ctx, cancel := context.WithTimeout(f.Context(), 5*time.Second)
				err := tr.Publish(ctx, f.topic, []transport.Message{message(id)})
				cancel()
				mu.Lock()
				switch {
				case err == nil:
					sent[id] = true
				case errors.Is(err, transport.ErrOutcomeUnknown):
					unknown[id] = true
				default:
					refused[id] = true
				}
				mu.Unlock()
			}
		})
	}
	ctx, cancel := context.WithCancel(f.Context())
	defer cancel()
	consuming.Go(func() {
		for ctx.Err() == nil {
			ds, err := c.Receive(ctx, 50)
			if err != nil {
				sleep(ctx, 20*time.Millisecond)
				continue
			}
			var acks []transport.Settlement
			mu.Lock()
			for _, d := range ds {
				seen[d.ID], last = true, time.Now()
				acks = append(acks, transport.Settlement{Tag: d.Tag, Outcome: transport.Ack})
			}
			mu.Unlock()
			settling, done := context.WithTimeout(ctx, 20*time.Second)
			_ = c.Settle(settling, acks) // if it fails, they come again
			done()
		}
	})
	count := func(m map[string]bool) int { mu.Lock(); defer mu.Unlock(); return len(m) }
	f.poll("messages before the outage", func() bool { return count(seen) >= 50 })
	stop()
	f.poll("a publish that fails", func() bool { return count(refused)+count(unknown) >= 10 })
	ping := func() error {
		ctx, cancel := context.WithTimeout(f.Context(), 5*time.Second)
		defer cancel()
		return tr.(transport.Pinger).Ping(ctx)
	}
	if ping() == nil {
		f.Error("Ping of a server that is away returned nil")
	}
	start()
	f.poll("a ping after the outage", func() bool { return ping() == nil })
	back := time.Now()
	mu.Lock()
	published := len(sent)
	mu.Unlock()
	f.poll("a delivery after the outage", func() bool { mu.Lock(); defer mu.Unlock(); return last.After(back) })
	if took := time.Since(back); took > time.Minute { // a second or two, on a machine that has nothing else to do
		f.Errorf("deliveries came back after %v", took)
	}
	f.poll("publishing after the outage", func() bool { return count(sent) > published+20 })
	close(quit)
	wg.Wait()
	f.poll("all that was published", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for id := range sent {
			if !seen[id] {
				return false
			}
		}
		return true
	})
	cancel()
	consuming.Wait()
	for id := range refused {
		if seen[id] {
			f.Errorf("%s was refused for certain, and delivered", id)
		}
	}
	f.Logf("%d published, %d refused, %d unknown of which some came", len(sent), len(refused), len(unknown))
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Unreachable opens what is not there: a port where nobody listens, and one where nobody answers.
func Unreachable(t *testing.T, url func(address string) string) {
	t.Helper()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	// Port 1 is one that nobody is given, unlike one that was closed.
	for what, address := range map[string]string{"nobody listens": "127.0.0.1:1", "nobody answers": silent.Addr().String()} {
		began := time.Now()
		tr, err := transport.Open(t.Context(), url(address))
		if err == nil {
			_ = tr.Close()
			t.Errorf("%s: it was opened", what)
			continue
		}
		if took := time.Since(began); took > time.Minute { // the limit is 5 s, and without one it is minutes or for ever
			t.Errorf("%s: it took %v", what, took)
		}
		if !strings.Contains(err.Error(), "connect") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// ReadOnly uses a topic in a database that cannot be written: each call says so, and none claims more than it knows.
func ReadOnly(t *testing.T, tr transport.Transport, topic string) {
	t.Helper()
	said := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(strings.ReplaceAll(strings.ToLower(err.Error()), "-", ""), "readonly") || errors.Is(err, transport.ErrOutcomeUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
	said("Publish", tr.Publish(t.Context(), topic, []transport.Message{message("1")}))
	_, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: topic, Group: "g"})
	said("Subscribe", err)
}
