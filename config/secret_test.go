package config_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postbus/postbus/config"
)

func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	write := func(content string) {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("p@ss/w?rd \n")
	cfg, err := load(t, "store: postgres://shop:${file:"+file+"}@db/shop\n")
	if want := config.URL("postgres://shop:p%40ss%2Fw%3Frd@db/shop"); err != nil || cfg.Store != want {
		t.Errorf("a part: %q, %v; want %q", string(cfg.Store), err, string(want))
	}
	write("mysql://shop:p%40ss@db/shop\n")
	cfg, err = load(t, "", "POSTBUS_STORE=${file:"+file+"}")
	if want := config.URL("mysql://shop:p%40ss@db/shop"); err != nil || cfg.Store != want {
		t.Errorf("the whole: %q, %v; want %q", string(cfg.Store), err, string(want))
	}
}

func TestNothingPrintedHoldsAPassword(t *testing.T) {
	t.Parallel()
	for _, raw := range []config.URL{
		"postgres://shop:hunter2@db/shop?pool_max_conns=8",
		"postgres://db/shop?user=shop&password=hunter2",
		"amqp://shop:hunter2/with@db/",
		"amqp://shop:hun%zzter2@db/",
		"sqlite:file?secret_key=hunter2",
		"amqp://user:ab?hunter2@host/",
	} {
		cfg := &config.Config{Store: raw, Transport: raw}
		effective, err := cfg.Effective()
		if err != nil {
			t.Error(err)
		}
		encoded, err := json.Marshal(cfg)
		if err != nil {
			t.Error(err)
		}
		var logged strings.Builder
		slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "url", raw, "config", cfg)
		printed := fmt.Sprintf("%v %+v %#v %s %q %x %v", raw, cfg, raw, raw, raw, raw, *cfg)
		_, loadErr := load(t, "transport: "+string(raw)+"\nstore: ["+string(raw)+"]\nname: ["+string(raw)+"]\nstop_timeout: "+string(raw)+"\n")
		for _, text := range []string{effective, string(encoded), printed, logged.String(), fmt.Sprint(loadErr)} {
			if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) || strings.Contains(text, "zzter2") {
				t.Errorf("%s", text)
			}
		}
	}
}
