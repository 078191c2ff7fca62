package postgres_test

import (
	"testing"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/transport"
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
