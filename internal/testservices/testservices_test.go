package testservices

import (
	"net"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"
)

// outcome records how a test that asked for a server ended.
type outcome struct {
	testing.TB
	skipped, failed string
}

func (o *outcome) Skip(args ...any)  { o.skipped = args[0].(string); runtime.Goexit() }
func (o *outcome) Fatal(args ...any) { o.failed = args[0].(string); runtime.Goexit() }

func ask(t *testing.T, f func(testing.TB)) *outcome {
	o, done := &outcome{TB: t}, make(chan struct{})
	go func() {
		defer close(done)
		f(o)
	}()
	<-done
	return o
}

func TestMissingServer(t *testing.T) {
	t.Setenv("POSTBUS_TEST_MYSQL_URL", "")
	const command = `scripts/services up mysql && eval "$(scripts/services env)"`

	t.Setenv("CI", "")
	if o := ask(t, func(t testing.TB) { MySQL(t) }); !strings.Contains(o.skipped, command) || o.failed != "" {
		t.Errorf("without CI: skipped %q, failed %q; want it skipped, naming %s", o.skipped, o.failed, command)
	}
	t.Setenv("CI", "1")
	if o := ask(t, func(t testing.TB) { MySQL(t) }); !strings.Contains(o.failed, command) {
		t.Errorf("under CI: failed %q, want it failed, naming %s", o.failed, command)
	}
}

func TestServerOfTheUserIsNotStopped(t *testing.T) {
	t.Setenv("CI", "")
	t.Setenv("POSTBUS_TEST_RABBITMQ_URL", "amqp://example.invalid")
	t.Setenv("POSTBUS_TEST_SERVICES_OWNED", "postgres mysql")
	for name, f := range map[string]func(testing.TB, string){
		"Restart": Restart, "Stop": Stop, "Start": Start, "Private": func(t testing.TB, name string) { Private(t, name) },
	} {
		if o := ask(t, func(t testing.TB) { f(t, "rabbitmq") }); !strings.Contains(o.skipped, "not ours to stop") {
			t.Errorf("%s: skipped %q, want it skipped as not ours", name, o.skipped)
		}
	}
}

func TestPrivate(t *testing.T) {
	shared := Postgres(t)
	s := Private(t, "postgres")
	if s.URL == shared {
		t.Fatalf("the private server has the URL of the shared one, %s", shared)
	}
	s.Restart(t)
	if !answers(t, s.URL) {
		t.Error("restarted, but nothing listens")
	}
	s.Stop(t)
	if answers(t, s.URL) {
		t.Error("stopped, but still listens")
	}
	if !answers(t, shared) {
		t.Error("the shared server stopped with the private one")
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if other := private(t, "postgres", u.Port()); other.URL == s.URL {
		t.Error("another server has the port of one that is stopped")
	}
	s.Start(t)
	if !answers(t, s.URL) {
		t.Error("started, but nothing listens")
	}
}

func answers(t *testing.T, raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.DialTimeout("tcp", u.Host, 5*time.Second)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
