package sqlite_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/sqlite"
)

func TestBadURLs(t *testing.T) {
	t.Parallel()
	sqllogtest.BadURLs(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db")+"?busy_timeout=1s", map[string]string{
		"payload=bytea":    `unknown parameter "payload"`,
		"synchronous=no":   "one of full, normal, extra, off",
		"max_page_count=0": "max_page_count",
	})
}

// TestFullDisk: what does not fit is refused, what was published stays, and the transport goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	tr, err := transport.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "x.db")+"?max_page_count=100")
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Publish(t.Context(), "orders", []transport.Message{{ID: "1", Payload: []byte("small")}}); err != nil {
		t.Fatal(err)
	}
	err = tr.Publish(t.Context(), "orders", []transport.Message{{ID: "2", Payload: make([]byte, 1<<20)}})
	if err == nil || !strings.Contains(err.Error(), "full") || errors.Is(err, transport.ErrOutcomeUnknown) {
		t.Errorf("got %v", err)
	}
	sub, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: "orders", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	ds, err := sub.Receive(t.Context(), 10)
	if err != nil || len(ds) != 1 || ds[0].ID != "1" {
		t.Errorf("got %v, %v", ds, err)
	}
}

func TestTableWithOtherColumns(t *testing.T) {
	t.Parallel()
	sqllogtest.ForeignTable(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
}

func TestReadOnlyFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.db")
	tr, err := transport.Open(t.Context(), "sqlite:"+file)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Publish(t.Context(), "orders", []transport.Message{{ID: "1"}}); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	reader, err := sqlite.New(t.Context(), store.Use(db, store.SQLite), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	sqllogtest.ReadOnly(t, reader, "orders")
}

func TestUnwritableFile(t *testing.T) {
	t.Parallel()
	if tr, err := transport.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "missing", "x.db")); err == nil {
		_ = tr.Close()
		t.Error("a file in a folder that is not there was opened")
	}
	file := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(file, []byte(strings.Repeat("this is no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if tr, err := transport.Open(t.Context(), "sqlite:"+file); err == nil {
		_ = tr.Close()
		t.Error("a file that is no database was opened")
	}
}
