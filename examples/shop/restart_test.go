package main

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/testservices"
)

// TestBrokerRestarts runs a day over RabbitMQ while the broker is restarted twice.
func TestBrokerRestarts(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts a broker")
	}
	t.Parallel()
	s := testservices.Private(t, "rabbitmq")
	var stdout bytes.Buffer
	var stderr lockedBuffer
	var r result
	var wg sync.WaitGroup
	defer wg.Wait()
	over := make(chan struct{})
	wg.Go(func() {
		defer close(over)
		p := program{stdout: &stdout, stderr: &stderr}
		r.status = p.run(t.Context(), []string{
			"--transport", s.URL + "?single-active-consumer=true&connect_timeout=60s", "--rate", "40", "--patience", "90s",
		})
	})
	for n := range 2 {
		select {
		case <-over:
			t.Fatalf("the day was over before restart %d; stderr:\n%s", n+1, stderr.String())
		case <-time.After(2 * time.Second): // some lines are on their way
		}
		s.Restart(t)
	}
	<-over
	r.stdout, r.stderr = stdout.String(), stderr.String()
	r.expect(t, exitOK, "The books balance.", "receive failed, trying again")
	for _, name := range []string{"lines read", "orders in", "set aside", "charged", "declined", "refused", "shipped", "customers told"} {
		if got := r.row(name); got != theDay[name] {
			t.Errorf("%s: %q, want %q", name, got, theDay[name])
		}
	}
}

// lockedBuffer is written by the program while the test reads it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
