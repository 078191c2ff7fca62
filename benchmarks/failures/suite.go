// Package failures measures what the standard chain costs, and the quarantine.
package failures

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/store"
)

// Suite is the suite failures.
var Suite = bench.Suite{
	Name:  "failures",
	About: "the standard chain beside a bare bus, and the quarantine, on PostgreSQL and SQLite",
	Open:  open,
	Cases: append(chainCases, []bench.Case{
		{Name: "quarantine-postgres", N: inQuarantine, Ours: quarantined(&small), AtLeast: 5000},
		{Name: "replay-postgres", N: inQuarantine, Ours: replayed(&small), AtLeast: 5000},
		{Name: "list-1m", N: 1, Unit: "ms", Ours: onPostgres.slowest(onPostgres.list), AtMost: 100},
		{Name: "fingerprints-1m", N: 1, Unit: "ms", Ours: onPostgres.slowest(onPostgres.fingerprints), AtMost: 100},
		{Name: "show-1m", N: 1, Unit: "ms", Ours: onPostgres.slowest(onPostgres.show), AtMost: 100},
		{Name: "list-1m-sqlite", N: 1, Unit: "ms", Ours: onSQLite.slowest(onSQLite.list), AtMost: 100},
		{Name: "fingerprints-1m-sqlite", N: 1, Unit: "ms", Ours: onSQLite.slowest(onSQLite.fingerprints), AtMost: 100},
		{Name: "show-1m-sqlite", N: 1, Unit: "ms", Ours: onSQLite.slowest(onSQLite.show), AtMost: 100},
	}...),
}

var (
	small                string // the URL of a database for few entries
	onPostgres, onSQLite million
)

const payload = `{"order_id":"order-1001","customer":"customer-4711","cents":1234}`

// open makes the databases. Those of a million entries are filled by who uses them first.
func open(ctx context.Context) (func() error, error) {
	base := os.Getenv("POSTBUS_TEST_POSTGRES_URL")
	if base == "" {
		return nil, errors.New("POSTBUS_TEST_POSTGRES_URL is not set: see scripts/services env")
	}
	admin, err := store.Open(ctx, base)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "postbus-bench")
	if err != nil {
		return nil, errors.Join(err, admin.Close())
	}
	onSQLite.url = "sqlite:" + filepath.Join(dir, "million.db")
	var names []string
	closeAll := func() error {
		errs := []error{onPostgres.close(), onSQLite.close(), os.RemoveAll(dir)}
		for _, name := range names {
			_, err := admin.SQL().ExecContext(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
			errs = append(errs, err)
		}
		return errors.Join(append(errs, admin.Close())...)
	}
	for _, to := range []*string{&small, &onPostgres.url} {
		name := fmt.Sprintf("bench_%d", time.Now().UnixNano())
		if _, err := admin.SQL().ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
			return nil, errors.Join(err, closeAll())
		}
		names = append(names, name)
		u, err := url.Parse(base)
		if err != nil {
			return nil, errors.Join(err, closeAll())
		}
		u.Path = "/" + name
		*to = u.String()
	}
	return closeAll, nil
}
