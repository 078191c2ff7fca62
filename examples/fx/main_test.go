package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheApplicationIsValid(t *testing.T) {
	t.Parallel()
	if err := fx.ValidateApp(options()...); err != nil {
		t.Error(err)
	}
}

// TestTheSameProgramOnEveryTransport builds the program once and swaps the transport by a variable.
func TestTheSameProgramOnEveryTransport(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("output.txt")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "shop")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, url := range map[string]func(t *testing.T) string{
		"memory":   func(t *testing.T) string { return "memory:" },
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "shop.db") },
		"postgres": func(t *testing.T) string { return testdb.New(t, testservices.Postgres(t)) },
		"mysql":    func(t *testing.T) string { return testdb.New(t, testservices.MySQL(t)) },
		"rabbitmq": func(t *testing.T) string { return testservices.Private(t, "rabbitmq").URL },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), binary)
			cmd.Dir = "../.."
			cmd.Env = append(os.Environ(), "POSTBUS_TRANSPORT="+url(t))
			var stderr strings.Builder
			cmd.Stderr = &stderr
			got, err := cmd.Output()
			if err != nil || string(got) != string(want) {
				t.Errorf("%v; printed\n%s\nwant\n%s\n%s", err, got, want, stderr.String())
			}
		})
	}
}
