package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/store"
)

// TestTheSameBooksEverywhere runs the same program where two variables say, and compares what is in the books then.
func TestTheSameBooksEverywhere(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	books := map[string]string{}
	t.Run("on", func(t *testing.T) {
		for name, work := range map[string]func(t *testing.T) (books string){
			"memory":   func(t *testing.T) string { return workOn(t, "memory:", sqliteFile(t)) },
			"sqlite":   func(t *testing.T) string { return workOn(t, "", sqliteFile(t)) },
			"postgres": func(t *testing.T) string { return workOnServer(t, testservices.Postgres(t)) },
			"mysql":    func(t *testing.T) string { return workOnServer(t, testservices.MySQL(t)) },
			"rabbitmq": func(t *testing.T) string {
				if testing.Short() {
					t.Skip("restarts a broker")
				}
				store := testdb.New(t, testservices.Postgres(t))
				overRestartedBroker(t, store)
				return dump(t, store)
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := work(t)
				mu.Lock()
				defer mu.Unlock()
				books[name] = b
			})
		}
	})
	for name, b := range books {
		if want := books["sqlite"]; b != want {
			t.Errorf("on %s the books say\n%s\nand on sqlite\n%s", name, b, want)
		}
	}
}

func sqliteFile(t *testing.T) string {
	return "sqlite:" + filepath.Join(t.TempDir(), "shop.db") + "?synchronous=off"
}

func workOnServer(t *testing.T, server string) string {
	url := testdb.New(t, server)
	and := "?"
	if strings.Contains(url, "?") {
		and = "&"
	}
	return workOn(t, url+and+"payload=bytea", url)
}

func workOn(t *testing.T, transport, store string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), built(t), unhurried...)
	cmd.Env = append(os.Environ(), "POSTBUS_TRANSPORT="+transport, "POSTBUS_STORE="+store)
	finish(t, cmd).expectTheDay(t)
	return dump(t, store)
}

// dump is all that is in the books, but for the tries: one that the network has broken is one more.
func dump(t *testing.T, url string) string {
	t.Helper()
	db, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var all strings.Builder
	for _, query := range []string{
		`select id, number, refused from shop_lines order by number`,
		`select message, order_id from shop_submissions order by message`,
		`select id, customer, card, items, cents, status from shop_orders order by id`,
		`select sku, opening, on_hand, held, gone from shop_stock order by sku`,
		`select order_id, items, status from shop_holds order by order_id`,
		`select order_id, status, cents from shop_payments order by order_id`,
		`select order_id, cents from bank_account order by order_id`,
		`select order_id, items from shop_parcels order by order_id`,
		`select order_id, recipient, about, body from shop_mails order by order_id`,
	} {
		err := each(context.Background(), db, query, func(columns ...any) error {
			fmt.Fprintln(&all, columns...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}
