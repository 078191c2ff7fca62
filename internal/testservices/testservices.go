// Package testservices gives tests the servers that scripts/services runs, or those that the environment names.
//
// A test that asks for a server that is not there is skipped, and a note on stderr says once what was left out. With
// CI set it fails instead: there, a missing server must not look like a passed test.
package testservices

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Postgres returns the URL of a PostgreSQL server, as a superuser, with logical replication enabled.
func Postgres(t testing.TB) string { t.Helper(); return serverURL(t, "postgres") }

// MySQL returns the URL of a MariaDB or MySQL server (mysql://user:password@host:port/database), as a user who may
// create databases.
func MySQL(t testing.TB) string { t.Helper(); return serverURL(t, "mysql") }

// RabbitMQ returns the URL of a RabbitMQ broker that supports quorum queues.
func RabbitMQ(t testing.TB) string { t.Helper(); return serverURL(t, "rabbitmq") }

// Restart restarts a shared server ("postgres", "mysql" or "rabbitmq") and returns when it answers again. Every other
// test that uses the server feels it, also those of packages tested at the same time: prefer Private. A server that is
// not run by scripts/services is not touched; the test is skipped, or fails under CI.
func Restart(t testing.TB, name string) { t.Helper(); owned(t, name); services(t, "", "restart", name) }

// Stop stops a shared server, as Restart does, and keeps its data. It is started again when the test ends.
func Stop(t testing.TB, name string) {
	t.Helper()
	owned(t, name)
	t.Cleanup(func() { services(t, "", "start", name) })
	services(t, "", "stop", name)
}

// Start starts a server that Stop stopped and returns when it answers. It does nothing if the server runs.
func Start(t testing.TB, name string) { t.Helper(); owned(t, name); services(t, "", "start", name) }

// Server is a server of one test's own.
type Server struct {
	URL string // stays the same over Stop, Start and Restart

	name, dir string
}

// Private starts a server ("postgres", "mysql" or "rabbitmq") that no other test sees, for tests that stop it. It takes
// 1 to 10 seconds, and ends with the test. It needs the shared server to be one of scripts/services; otherwise the test
// is skipped, or fails under CI.
func Private(t testing.TB, name string) *Server { t.Helper(); return private(t, name, "") }

// private is Private, for a server that once had a port.
func private(t testing.TB, name, port string) *Server {
	t.Helper()
	owned(t, name)
	// Below the shared folder, so that `scripts/services down` also ends what a killed test left behind.
	parent := filepath.Join(os.Getenv("POSTBUS_SERVICES_DIR"), "private")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		t.Fatalf("testservices: %v", err)
	}
	dir, err := os.MkdirTemp(parent, "")
	if err != nil {
		t.Fatalf("testservices: %v", err)
	}
	t.Cleanup(func() {
		services(t, dir, "down", "--purge")
		_ = os.RemoveAll(dir)
	})
	if err := os.Chmod(dir, 0o755); err != nil { // the servers run as users of their own
		t.Fatalf("testservices: %v", err)
	}
	if port != "" {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatalf("testservices: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "port"), []byte(port+"\n"), 0o644); err != nil {
			t.Fatalf("testservices: %v", err)
		}
	}
	services(t, dir, "up", name)
	for line := range strings.Lines(services(t, dir, "env")) {
		if v, ok := strings.CutPrefix(line, "export "+variable(name)+"="); ok {
			return &Server{URL: strings.Trim(v, "'\n"), name: name, dir: dir}
		}
	}
	t.Fatalf("testservices: %s is up, but scripts/services env does not name it", name)
	return nil
}

// Restart restarts the server and returns when it answers again.
func (s *Server) Restart(t testing.TB) { t.Helper(); services(t, s.dir, "restart", s.name) }

// RestartCommand is Restart as a command with its arguments, for suites that run one themselves.
func (s *Server) RestartCommand(t testing.TB) []string {
	t.Helper()
	return []string{"env", "POSTBUS_SERVICES_DIR=" + s.dir, script(t), "restart", s.name}
}

// Stop stops the server and keeps its data.
func (s *Server) Stop(t testing.TB) { t.Helper(); services(t, s.dir, "stop", s.name) }

// Start starts the server after Stop and returns when it answers. It does nothing if the server runs.
func (s *Server) Start(t testing.TB) { t.Helper(); services(t, s.dir, "start", s.name) }

func variable(name string) string { return "POSTBUS_TEST_" + strings.ToUpper(name) + "_URL" }

func serverURL(t testing.TB, name string) string {
	t.Helper()
	u := os.Getenv(variable(name))
	if u == "" {
		leaveOut(t, name, variable(name)+" is not set")
	}
	return u
}

// owned returns if scripts/services runs the server; POSTBUS_TEST_SERVICES_OWNED lists those it does.
func owned(t testing.TB, name string) {
	t.Helper()
	serverURL(t, name)
	if !slices.Contains(strings.Fields(os.Getenv("POSTBUS_TEST_SERVICES_OWNED")), name) {
		leaveOut(t, name, variable(name)+" names a server that is not ours to stop: unset it")
	}
}

var noted sync.Map // what leaveOut has already told stderr

func leaveOut(t testing.TB, name, why string) {
	t.Helper()
	message := fmt.Sprintf(`no %s for this test: %s; run: scripts/services up %s && eval "$(scripts/services env)"`, name, why, name)
	if os.Getenv("CI") != "" {
		t.Fatal(message)
	}
	if _, again := noted.LoadOrStore(message, true); !again {
		fmt.Fprintln(os.Stderr, "tests left out: "+message)
	}
	t.Skip(message)
}

// services runs scripts/services on the servers of dir, or on the shared ones if dir is empty.
func services(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(script(t), args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if dir != "" {
		cmd.Env = append(os.Environ(), "POSTBUS_SERVICES_DIR="+dir)
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("testservices: scripts/services %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// script finds scripts/services.
func script(t testing.TB) string {
	t.Helper()
	root, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(root, "scripts", "services")); missing == nil {
			break
		}
		if root == filepath.Dir(root) {
			t.Fatal("testservices: no scripts/services in any folder above the test")
		}
		root = filepath.Dir(root)
	}
	return filepath.Join(root, "scripts", "services")
}
