package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postbus/postbus/config"
)

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
	p := program{t: t, environ: []string{"POSTBUS_STORE=postgres://db/shop?password=hunter3"}}
	out := p.ok("config", "check", file)
	for _, want := range []string{"transport: amqp://shop:xxxxx@mq/\n", "workers: 3\n", "store: postgres://db/shop?password=xxxxx\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "hunter") {
		t.Errorf("a password in\n%s", out)
	}
	// What it prints is a configuration, as long as no password is missing.
	if _, err := config.Load(write(t, out), nil); err != nil {
		t.Error(err)
	}
}

func TestConfigCheckNamesAllMistakes(t *testing.T) {
	t.Parallel()
	p := program{t: t}
	p.fails(exitFailure, []string{"nmae: unknown key", `unknown scheme "kafka"`, "stop_timeout: 3 has no unit"},
		"config", "check", write(t, "nmae: x\ntransport: kafka://mq\nstop_timeout: 3\n"))
}

func TestConfigSchema(t *testing.T) {
	t.Parallel()
	p := program{t: t}
	if out := p.ok("config", "schema"); out != string(config.Schema()) {
		t.Error(out)
	}
}
