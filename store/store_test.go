package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func schema(name string, versions ...string) store.Schema {
	files := fstest.MapFS{}
	for _, dialect := range []string{"postgres", "mysql", "sqlite"} {
		for _, v := range versions {
			files[dialect+"/0000"+v+"_x.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE " + name + "_" + v + " (a int);\n")}
		}
	}
	return store.Schema{Name: name, Files: files}
}

func TestMigrateFromManyInstancesAtOnce(t *testing.T) {
	t.Parallel()
	for dialect, open := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "x.db") },
		"postgres": func(t *testing.T) string { return testdb.New(t, testservices.Postgres(t)) },
		"mysql":    func(t *testing.T) string { return testdb.New(t, testservices.MySQL(t)) },
	} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			rawURL := open(t)
			const name = "m"
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					db, err := store.Open(t.Context(), rawURL)
					if err != nil {
						t.Error(err)
						return
					}
					defer db.Close()
					if err := db.Migrate(t.Context(), schema(name, "1", "2")); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			db, err := store.Open(t.Context(), rawURL)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.SQL().Exec("INSERT INTO " + name + "_2 (a) VALUES (1)"); err != nil {
				t.Error(err)
			}
			err = db.Migrate(t.Context(), schema(name, "1"))
			if !errors.Is(err, store.ErrNewerSchema) || !strings.Contains(err.Error(), "version 2") {
				t.Errorf("an older program: %v", err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for rawURL, want := range map[string]string{
		"sqlite:":                                 "names no file",
		"sqlite:x.db?sync=full":                   `unknown parameter "sync"; known: busy_timeout`,
		"mysql://u:secret@127.0.0.1:1/x?foo=1":    `unknown parameter "foo"`,
		"postgres://u:secret@127.0.0.1:1/x?foo=1": `unknown parameter "foo"`,
		"postgres://u:secret@127.0.0.1:1/x":       "connect",
		"mysql://u:secret@127.0.0.1:1/x":          "connect",
		"oracle://u:secret@h/x":                   "names no database",
		"postgres://u:secret@h:port/x":            "not a URL",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		db, err := store.Open(ctx, rawURL)
		cancel()
		if err == nil {
			_ = db.Close()
			t.Errorf("%s was opened", rawURL)
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", rawURL, err)
		}
	}
}

func TestBind(t *testing.T) {
	t.Parallel()
	const q = "UPDATE t SET a = ?, b = ? WHERE c = ?"
	for d, want := range map[store.Dialect]string{
		store.Postgres: "UPDATE t SET a = $1, b = $2 WHERE c = $3", store.MySQL: q, store.SQLite: q,
	} {
		if got := d.Bind(q); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}
