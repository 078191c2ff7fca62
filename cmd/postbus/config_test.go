package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shop.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConfigCheckPrintsWithoutSecrets(t *testing.T) {
	t.Parallel()
	file := write(t, "transport: amqp://shop:hunter2@mq/\ngroups: {billing: {workers: 3}}\n")
	var out bytes.Buffer
	err := run(t.Context(), []string{"config", "check", file}, []string{"POSTBUS_STORE=postgres://db/shop?password=hunter3"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"transport: amqp://shop:xxxxx@mq/\n", "workers: 3\n", "store: postgres://db/shop?password=xxxxx\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "hunter") {
		t.Errorf("a password in\n%s", out.String())
	}
	// What it prints is a configuration, as long as no password is missing.
	if _, err := config.Load(write(t, out.String()), nil); err != nil {
		t.Error(err)
	}
}

func TestConfigCheckNamesAllMistakes(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := run(t.Context(), []string{"config", "check", write(t, "nmae: x\ntransport: kafka://mq\nstop_timeout: 3\n")}, nil, &out)
	for _, want := range []string{"nmae: unknown key", `unknown scheme "kafka"`, "stop_timeout: 3 has no unit"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if out.Len() > 0 || errors.Is(err, errUsage) {
		t.Errorf("printed %q, and %v", out.String(), err)
	}
}

func TestConfigSchema(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"config", "schema"}, nil, &out); err != nil || !bytes.Equal(out.Bytes(), config.Schema()) {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"help"}, {"config"}, {"config", "check"}, {"config", "check", "a", "b"}, {"config", "schema", "x"}} {
		if err := run(t.Context(), args, nil, &bytes.Buffer{}); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v, want one that says how it is called", args, err)
		}
	}
}
