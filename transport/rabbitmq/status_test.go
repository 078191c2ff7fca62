package rabbitmq_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/rabbitmq"
)

func TestPing(t *testing.T) {
	t.Parallel()
	p := newProxy(t, brokerURL(t))
	tr := openQuiet(t, p.url, nil)
	ping := func() error { return tr.Ping(t.Context()) }
	if err := ping(); err != nil {
		t.Errorf("with a broker: %v", err)
	}
	p.block("low on memory")
	eventually(t, "the block is seen", func() bool { err := ping(); return err != nil && strings.Contains(err.Error(), "low on memory") })
	p.set(func() { p.refuse = true })
	p.cut()
	eventually(t, "the loss is seen", func() bool {
		err := ping()
		return err != nil && strings.Contains(err.Error(), "the connection for publishing is down")
	})
	p.set(func() { p.refuse = false })
	eventually(t, "the return is seen", func() bool { return ping() == nil && tr.Status().Publish.State == rabbitmq.Up })
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ping(); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
