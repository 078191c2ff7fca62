package postgres_test

import (
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/postgres"
)

func TestServerGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	server := testservices.Private(t, "postgres")
	sqllogtest.Outage(t, server.URL, func() { server.Stop(t) }, func() { server.Start(t) })
}

func TestServerIsNotThere(t *testing.T) {
	t.Parallel()
	sqllogtest.Unreachable(t, func(address string) string { return "postgres://u:secret@" + address + "/x?sslmode=disable" })
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	rawURL := database(t)
	topic := sqllogtest.Unique("readonly")
	if err := open(t, rawURL).Publish(t.Context(), topic, []transport.Message{{ID: "1"}}); err != nil {
		t.Fatal(err)
	}
	tr := open(t, withQuery(rawURL, "options=-c%20default_transaction_read_only%3Don"))
	sqllogtest.ReadOnly(t, tr, topic)
}

func TestSilentConnectionsAreGivenUp(t *testing.T) {
	t.Parallel()
	sqllogtest.Silence(t, testdb.New(t, testservices.Postgres(t)))
}

// TestServerThatStarts: what a server refuses while it starts was not published for certain.
func TestServerThatStarts(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := pgproto3.NewBackend(c, c)
			if _, err := b.ReceiveStartupMessage(); err == nil {
				b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"})
				_ = b.Flush()
			}
			_ = c.Close()
		}
	})
	_, err = pgconn.Connect(t.Context(), "postgres://u@"+l.Addr().String()+"/x?sslmode=disable")
	if class := postgres.Class(err); err == nil || class != sqllog.NotSent {
		t.Errorf("%v is of class %v", err, class)
	}
}
