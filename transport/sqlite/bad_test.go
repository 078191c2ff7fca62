package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

func TestBadURLs(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"?leese=7s":       `unknown parameter "leese"; known: busy_timeout, lease`,
		"?lease=7":        `parameter lease="7" must be`,
		"?lease=1ms":      "at least 100ms",
		"?partitions=0":   "partitions",
		"?payload=bytea":  `unknown parameter "payload"`,
		"?retention=-1h":  "retention",
		"?synchronous=no": "one of full, normal, extra, off",
	} {
		tr, err := transport.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "x.db")+query)
		if err == nil {
			_ = tr.Close()
			t.Errorf("%s was opened", query)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", query, err)
		}
	}
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
	url := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
	db, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.SQL().Exec(`CREATE TABLE watermill_orders (id int)`); err != nil {
		t.Fatal(err)
	}
	tr, err := transport.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	err = tr.Publish(t.Context(), "orders", []transport.Message{{ID: "1"}})
	if err == nil || !strings.Contains(err.Error(), `"watermill_orders" exists and is not as watermill-sql makes it`) {
		t.Errorf("got %v", err)
	}
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
