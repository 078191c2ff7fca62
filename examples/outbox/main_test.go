package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
)

// TestMain is the program itself in the processes that the test kills.
func TestMain(m *testing.M) {
	if os.Getenv("OUTBOX_EXAMPLE") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

const lives = 8

// TestTheBooksBalance kills the service again and again while it takes orders. Then each order that was taken is there, and
// was charged once.
func TestTheBooksBalance(t *testing.T) {
	t.Parallel()
	t.Run("SQLite to SQLite", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		balance(t, "sqlite:"+filepath.Join(dir, "orders.db"), "sqlite:"+filepath.Join(dir, "bus.db")+"?lease=500ms")
	})
	t.Run("PostgreSQL to RabbitMQ", func(t *testing.T) {
		t.Parallel()
		balance(t, testdb.New(t, testservices.Postgres(t)), testservices.Private(t, "rabbitmq").URL)
	})
}

func balance(t *testing.T, store, transport string) {
	address := freeAddress(t)
	taken := map[string]int64{}
	unsure := int64(0) // orders without an answer, which may have been taken
	for life := range lives {
		kill := start(t, address, store, transport)
		before, begun, lasts := len(taken), time.Now(), rand.N(200*time.Millisecond)
		for time.Since(begun) < lasts || len(taken) == before && time.Since(begun) < time.Minute {
			id, cents := fmt.Sprintf("o-%d-%d", life, len(taken)), 100+rand.Int64N(900)
			if post(address, id, cents) {
				taken[id] = cents
			}
		}
		last := make(chan bool)
		go func() { last <- post(address, fmt.Sprintf("o-%d-last", life), 1) }()
		kill()
		if <-last {
			taken[fmt.Sprintf("o-%d-last", life)] = 1
		} else {
			unsure++
		}
	}
	defer start(t, address, store, transport)()
	var cents int64
	for _, c := range taken {
		cents += c
	}
	var b Books
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		res, err := http.Get("http://" + address + "/books")
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(res.Body).Decode(&b)
		_ = res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if b.Charges >= b.Orders || time.Now().After(end) {
			break
		}
	}
	t.Logf("%d orders taken in %d lives: %+v", len(taken), lives, b)
	if b.Orders != b.Charges || b.Ordered != b.Charged {
		t.Errorf("the books do not balance: %+v", b)
	}
	if n := int64(b.Orders - len(taken)); n < 0 || n > unsure || b.Ordered != cents+n {
		t.Errorf("%d orders of %d cents were taken, and the books have %+v", len(taken), cents, b)
	}
	if len(taken) < lives {
		t.Errorf("%d orders in %d lives: the service did nothing", len(taken), lives)
	}
}

// freeAddress returns one that stays free while the service is dead: below the ports that clients are given.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 22000+rand.IntN(10000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// start runs the service until kill is called.
func start(t *testing.T, address, store, transport string) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-listen", address, "-store", store, "-transport", transport, "-lease", "500ms")
	cmd.Env = append(os.Environ(), "OUTBOX_EXAMPLE=1")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if res, err := http.Get("http://" + address + "/books"); err == nil {
			_ = res.Body.Close()
			return kill
		}
		if time.Now().After(end) {
			kill()
			t.Fatalf("the service does not answer; it said:\n%s", said.String())
		}
	}
}

// post reports whether an order was taken.
func post(address, id string, cents int64) bool {
	res, err := http.PostForm("http://"+address+"/orders", url.Values{"id": {id}, "cents": {fmt.Sprint(cents)}})
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusCreated
}
