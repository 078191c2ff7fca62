package main

import (
	"bytes"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/store"
)

// folder is where the program is built.
var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "shop"); err != nil {
		log.Fatal(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		_ = os.RemoveAll(folder)
		os.Exit(status)
	}))
}

// binary is the program, built once.
var binary = sync.OnceValues(func() (string, error) {
	file := filepath.Join(folder, "shop")
	if out, err := exec.Command("go", "build", "-o", file, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return file, nil
})

func built(t *testing.T) string {
	t.Helper()
	file, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// kills is how often the program is killed; on a machine that takes longer than killing for that, a quarter may have to do.
const (
	kills   = 100
	killing = time.Minute
)

// TestKilledAtAnyMoment kills the program again and again and starts it anew. What it says in the end is what it says if
// nobody disturbs it.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite": func(t *testing.T) string {
			return "sqlite:" + filepath.Join(t.TempDir(), "shop.db") + "?synchronous=off"
		},
		"postgres": func(t *testing.T) string {
			return testdb.New(t, testservices.Postgres(t)) + "&synchronous_commit=off&payload=bytea"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killedAtAnyMoment(t, url(t)+"&lease=200ms")
		})
	}
}

func killedAtAnyMoment(t *testing.T, url string) {
	shop := built(t)
	start := func(args ...string) (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.CommandContext(t.Context(), shop, append(args, "--transport", url, "--patience", "5m")...)
		// A message counts its deliveries, and a process that is killed may have died of it: so often it may.
		cmd.Env = append(os.Environ(), "POSTBUS_POLICY__ATTEMPTS=1000")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &out
	}
	began, killed := time.Now(), 0
	for ; killed < kills && (killed < kills/4 || time.Since(began) < killing); killed++ {
		cmd, out := start("--rate", "12") // so slowly that it will not be done before the last
		time.Sleep(80*time.Millisecond + rand.N(250*time.Millisecond))
		_ = cmd.Process.Kill()
		err := cmd.Wait()
		if err == nil && killed >= kills/4 {
			break // the sleeps were so long that it was done
		}
		if err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("it ended before it was killed: %v\n%s", err, out)
		}
	}
	t.Logf("killed %d times in %v", killed, time.Since(began))
	cmd, out := start()
	_ = cmd.Wait()
	place, err := (&options{transport: url}).place(nil)
	if err != nil {
		t.Fatal(err)
	}
	result{status: cmd.ProcessState.ExitCode(), stdout: out.String()}.expectTheDay(t)
	saidOnce(t, place.store)
}

// saidOnce counts what was published: as much as if nobody had been killed.
func saidOnce(t *testing.T, url string) {
	t.Helper()
	db, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for topic, want := range map[string]int{"intake": 300, "orders": 287, "inventory": 287, "payments": 287, "checkout": 863, "shipping": 285} {
		var n int
		if err := db.SQL().QueryRowContext(t.Context(), "select count(*) from watermill_"+topic).Scan(&n); err != nil || n != want {
			t.Errorf("topic %s: %d messages were published, want %d: %v", topic, n, want, err)
		}
	}
}
