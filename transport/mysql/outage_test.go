package mysql_test

import (
	"testing"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
)

func TestServerGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	server := testservices.Private(t, "mysql")
	sqllogtest.Outage(t, server.URL, func() { server.Stop(t) }, func() { server.Start(t) })
}

func TestServerIsNotThere(t *testing.T) {
	t.Parallel()
	sqllogtest.Unreachable(t, func(address string) string { return "mysql://u:secret@" + address + "/x" })
}

func TestSilentConnectionsAreGivenUp(t *testing.T) {
	t.Parallel()
	sqllogtest.Silence(t, testdb.New(t, testservices.MySQL(t)))
}
