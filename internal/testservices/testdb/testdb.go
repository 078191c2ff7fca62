// Package testdb makes databases for tests on the servers of package testservices.
package testdb

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postbus/postbus/store"
)

var serial atomic.Int64

// New makes a database on a server of PostgreSQL or MySQL and returns its URL. It is gone after the test.
func New(t testing.TB, server string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := store.Open(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test_%d_%d_%d", os.Getpid(), time.Now().UnixNano(), serial.Add(1))
	if _, err := admin.SQL().ExecContext(t.Context(), "create database "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		drop := "drop database if exists " + name
		if admin.Dialect() == store.Postgres {
			drop += " with (force)"
		}
		if _, err := admin.SQL().ExecContext(context.Background(), drop); err != nil {
			t.Error(err)
		}
		if err := admin.Close(); err != nil {
			t.Error(err)
		}
	})
	u.Path = "/" + name
	return u.String()
}
