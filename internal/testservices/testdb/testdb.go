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
	name := fmt.Sprintf("test_%d_%d_%d", os.Getpid(), time.Now().UnixNano(), serial.Add(1))
	admin, made := create(t, server, name)
	t.Cleanup(func() {
		drop := "drop database if exists " + name
		if admin.Dialect() == store.Postgres {
			drop += " with (force)"
		}
		_, err := admin.SQL().ExecContext(context.Background(), drop)
		for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			_, err = admin.SQL().ExecContext(context.Background(), drop) // the server gives those it sends away 5 s
		}
		if err != nil {
			t.Error(err)
		}
		if err := admin.Close(); err != nil {
			t.Error(err)
		}
	})
	return made
}

// create makes a database; admin is to be closed.
func create(t testing.TB, server, name string) (admin *store.DB, made string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	if admin, err = store.Open(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.SQL().ExecContext(t.Context(), "create database "+name); err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return admin, u.String()
}
