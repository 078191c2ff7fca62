package main

import (
	"bytes"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/store"
)

// TestKilledAtAnyMoment kills the program again and again and starts it anew. What it says in the end is what it says if
// nobody disturbs it.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	shop := filepath.Join(dir, "shop")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", shop, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	url := "sqlite:" + filepath.Join(dir, "shop.db")
	start := func() (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.CommandContext(t.Context(), shop, "--transport", url+"?lease=200ms", "--patience", "60s")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &out
	}
	const most, least = 20, 5
	kills, finished := 0, false
	for kills < most && !finished {
		cmd, _ := start()
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("after %d kills: %v", kills, err)
			}
			finished = true
		case <-time.After(10*time.Millisecond + rand.N(400*time.Millisecond)):
			kills++
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	if kills < least {
		t.Errorf("it was killed only %d times before it was done", kills)
	}
	cmd, out := start() // if it had finished before, it says the same once more
	if err := cmd.Wait(); err != nil {
		t.Fatalf("after %d kills: %v\n%s", kills, err, out)
	}
	for _, want := range []string{
		`lines read +300\n`, `orders in +287\n`, `duplicates ignored +12\n`, `set aside +1\n`, `charged +286 `, `declined +1\n`, `shipped +286\n`,
		`The books balance\.`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("after %d kills, no %q in:\n%s", kills, want, out)
		}
	}
	once(t, url)
}

// once looks into the file: nobody has two parcels, and no parcel two owners.
func once(t *testing.T, url string) {
	t.Helper()
	db, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// The log holds each time that a parcel or a payment was told of; it must have been the same one each time.
	for topic, fields := range map[string]string{"shipping": "$.parcel", "payments": "$.cents"} {
		rows, err := db.SQL().QueryContext(t.Context(), `SELECT payload ->> '$.order_id', count(DISTINCT payload ->> '`+fields+`')
			FROM watermill_`+topic+` GROUP BY 1 HAVING count(DISTINCT payload ->> '`+fields+`') > 1`)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var order string
			var n int
			if err := rows.Scan(&order, &n); err != nil {
				t.Fatal(err)
			}
			t.Errorf("order %s: %d different %s in %s", order, n, strings.TrimPrefix(fields, "$."), topic)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var parcels, numbers int
	err = db.SQL().QueryRowContext(t.Context(), `SELECT count(*), count(DISTINCT entry ->> '$.Number') FROM shop_books WHERE book = 'shipping'`).Scan(&parcels, &numbers)
	if err != nil || parcels != 286 || numbers != 286 {
		t.Errorf("%d parcels with %d numbers: %v", parcels, numbers, err)
	}
}
