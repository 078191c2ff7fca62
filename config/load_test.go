package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/config"
	"github.com/postbus/postbus/transport"
	_ "github.com/postbus/postbus/transport/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// load loads a file with the content, under an environment.
func load(t testing.TB, content string, environ ...string) (*config.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shop.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(file, environ)
}

// full says every key.
const full = `
name: shop
transport: memory:?capacity=9
store: postgres://shop:secret@db/shop
stop_timeout: 10s
policy:
  attempts: 4
  delays: [1s, 1m, 1d12h]
  timeout: 20s
  retry: {attempts: 2, delay: 10ms, max_delay: 100ms}
retention: {inbox: 30d, sagas: 1h}
quarantine: {retention: 90d, replayed: 1d}
telemetry: {signals: traces, system: rabbitmq}
kill_switch: {rate: 1, min_deliveries: 5, window: 10s, pause: 1m}
groups:
  billing:
    workers: 32
    delivery: at most once
    prefetch: 64
    keep_order: true
    park_keys: true
    backoff: {min: 1s, max: 2s}
    timeout: 5s
    delays: []
  notes.eu:
`

func TestLoad(t *testing.T) {
	t.Parallel()
	cfg, err := load(t, full)
	if err != nil {
		t.Fatal(err)
	}
	policy := config.Policy{Attempts: 4, Delays: []time.Duration{time.Second, time.Minute, 36 * time.Hour}, Timeout: 20 * time.Second,
		Retry: config.Retry{Attempts: 2, Delay: 10 * time.Millisecond, MaxDelay: 100 * time.Millisecond}}
	want := &config.Config{
		Name: "shop", Transport: "memory:?capacity=9", Store: "postgres://shop:secret@db/shop", StopTimeout: 10 * time.Second,
		Policy:     policy,
		Retention:  config.Retention{Inbox: 720 * time.Hour, Sagas: time.Hour},
		Quarantine: config.Quarantine{Retention: 90 * 24 * time.Hour, Replayed: 24 * time.Hour},
		Telemetry:  config.Telemetry{Signals: "traces", System: "rabbitmq"},
		KillSwitch: &config.KillSwitch{Rate: 1, MinDeliveries: 5, Window: 10 * time.Second, Pause: time.Minute},
		Groups: map[string]config.Group{
			"billing": {Workers: 32, Delivery: "at most once", Prefetch: 64, KeepOrder: true, ParkKeys: true,
				Backoff: config.Backoff{Min: time.Second, Max: 2 * time.Second},
				Policy:  config.Policy{Timeout: 5 * time.Second, Delays: []time.Duration{}}},
			"notes.eu": {},
		},
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got\n%+v\nwant\n%+v", cfg, want)
	}
}

func TestTheEnvironmentLiesOverTheFile(t *testing.T) {
	t.Parallel()
	cfg, err := load(t, full,
		"POSTBUS_TRANSPORT=memory:", "POSTBUS_STOP_TIMEOUT=1m", "POSTBUS_NAME=", "HOME=/root", "POSTBUS_POLICY__DELAYS=2s, 3s",
		"POSTBUS_GROUPS__NOTES_EU__KEEP_ORDER=true", "POSTBUS_GROUPS__AUDIT__WORKERS=3", "POSTBUS_KILL_SWITCH__RATE=0.25",
		"POSTBUS_TEST_POSTGRES_URL=x", "POSTBUS_SERVICE_HOST=10.0.0.1", "POSTBUS_PORT_80_TCP=tcp://10.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(cfg.Name, cfg.Transport, cfg.StopTimeout, cfg.Policy.Delays, cfg.Policy.Attempts,
		cfg.Groups["notes.eu"].KeepOrder, cfg.Groups["audit"].Workers, cfg.Groups["billing"].Workers, *cfg.KillSwitch)
	if want := "shop memory: 1m0s [2s 3s] 4 true 3 32 {0.25 5 10s 1m0s}"; got != want+"\n" {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	alone, err := config.Load("", []string{"POSTBUS_NAME=shop"})
	if err != nil || alone.Name != "shop" {
		t.Errorf("without a file: %+v, %v", alone, err)
	}
	// What a program appends to os.Environ is meant, as os/exec has it.
	twice, err := config.Load("", []string{"POSTBUS_NAME=shop", "POSTBUS_NAME=a"})
	if err != nil || twice.Name != "a" {
		t.Errorf("of two values of a name the later counts: %+v, %v", twice, err)
	}
}

func TestEveryMistakeIsNamedByItsKey(t *testing.T) {
	t.Parallel()
	cfg, err := load(t, `
nmae: shop
transport: kafka://broker
store: oracle://db
stop_timeout: 30
policy:
  attempts: 0
  delays: [1s, 5, -1s]
  retry: {attempts: 1.5, delay: 2s, max_delay: 1s}
kill_switch: {rate: 7}
groups:
  billing:
    wokers: 3
    delivery: exactly once
    keep_order: "yes"
    backoff: {min: 10s, max: 1s}
    timeout: 1 fortnight
    retry: fast
  audit: [1]
  "a\nb": {}
  notes:
    workers:
    prefetch: "8"
`, "POSTBUS_TRANSPROT=amqp://mq", "POSTBUS_GROUPS__SHIPPING__WORKERS=many", "POSTBUS_GROUPS=x", "POSTBUS_GROUPS__BILLING__DELAYS=1s,2",
		"POSTBUS_KILL_SWITCH__PAUSE=soon")
	var all *config.Error
	if !errors.As(err, &all) {
		t.Fatalf("error %v, want a *config.Error", err)
	}
	var lines []string
	for _, m := range all.Mistakes {
		lines = append(lines, m.String())
	}
	want := []string{
		"POSTBUS_GROUPS: unknown variable; known: POSTBUS_NAME",
		"POSTBUS_TRANSPROT: unknown variable; known: POSTBUS_NAME, POSTBUS_TRANSPORT, ",
		`shop.yaml: groups.audit: a list is not a mapping`,
		`shop.yaml: groups.billing.backoff: min 10s is longer than max 1s`,
		`POSTBUS_GROUPS__BILLING__DELAYS: groups.billing.delays.2: "2" has no unit`,
		`shop.yaml: groups.billing.delivery: "exactly once" is unknown; known: ["at least once" "at most once"]`,
		`shop.yaml: groups.billing.keep_order: "yes" is not true or false`,
		`shop.yaml: groups.billing.retry: "fast" is not a mapping`,
		`shop.yaml: groups.billing.timeout: "1 fortnight" is not a duration`,
		`shop.yaml: groups.billing.wokers: unknown key; known: attempts, backoff, delays, delivery, keep_order, park_keys, prefetch, retry, timeout, workers`,
		`shop.yaml: groups.notes.prefetch: "8" is not a whole number`,
		`shop.yaml: groups.notes.workers: nothing is not a whole number`,
		`POSTBUS_GROUPS__SHIPPING__WORKERS: groups.shipping.workers: "many" is not a whole number`,
		`POSTBUS_KILL_SWITCH__PAUSE: kill_switch.pause: "soon" is not a duration`,
		`shop.yaml: kill_switch.rate: 7 must not be more than 1`,
		`shop.yaml: nmae: unknown key; known: groups, kill_switch, name`,
		`shop.yaml: policy.attempts: 0 must not be less than 1`,
		`shop.yaml: policy.delays.2: 5 has no unit: write 500ms, 30s, 5m, 2h or 7d`,
		`shop.yaml: policy.delays.3: "-1s" must not be negative`,
		`shop.yaml: policy.retry.attempts: 1.5 is not a whole number`,
		`shop.yaml: policy.retry: delay 2s is longer than max_delay 1s`,
		`shop.yaml: stop_timeout: 30 has no unit`,
		`shop.yaml: store: unknown scheme "oracle"; known: mysql, postgres, postgresql, sqlite`,
		`shop.yaml: transport: unsupported: unknown scheme "kafka"; linked in: memory`,
		"shop.yaml: groups.a\nb: ",
	}
	for _, w := range want {
		found := false
		for _, line := range lines {
			found = found || strings.HasPrefix(line, w)
		}
		if !found {
			t.Errorf("no mistake %q", w)
		}
	}
	if len(lines) != len(want) || t.Failed() {
		t.Errorf("%d mistakes, want %d:\n%s", len(lines), len(want), strings.Join(lines, "\n"))
	}
	if !errors.Is(err, transport.ErrUnsupported) {
		t.Error("the error does not match transport.ErrUnsupported")
	}
	if cfg.KillSwitch == nil || cfg.Groups["billing"].Workers != 0 {
		t.Errorf("what is right is missing: %+v", cfg)
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ content, want string }{
		"no YAML":            {"groups: [", "shop.yaml: yaml: line 1"},
		"a list":             {"- 1\n", "shop.yaml: yaml: unmarshal errors"},
		"no quotes":          {"transport: memory:\n", `as memory: does, needs quotes`},
		"a key twice":        {"name: a\nname: b\n", "already defined"},
		"a secret in no map": {"transport\n", "shop.yaml: yaml"},
		"a missing secret":   {"transport: ${file:/nowhere/secret}\n", "shop.yaml: transport: open /nowhere/secret"},
		"a number as URL":    {"transport: 77\n", "transport: the value, which is not shown, is not a text"},
		"a port that is not": {"transport: amqp://user:hunter2@host:x/\n", "shop.yaml: transport: open: not a URL"},
		"two documents":      {"# a\n---\nname: x\n---\nnmae: y\n", "shop.yaml: line 4: there is more"},
		"huge days":          {"stop_timeout: 9999999d\n", "out of range"},
	} {
		_, err := load(t, tc.content)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v, want one with %q and without the password", name, err, tc.want)
		}
	}
	if _, err := config.Load("/nowhere/shop.yaml", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if cfg, err := load(t, "# a shop\n---\nname: x\n"); err != nil || cfg.Name != "x" {
		t.Errorf("a document with its marker: %+v, %v", cfg, err)
	}
	if cfg, err := load(t, "\n# nothing\n"); err != nil || !reflect.DeepEqual(cfg, &config.Config{}) {
		t.Errorf("empty file: %+v, %v", cfg, err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(full, "POSTBUS_GROUPS__A__DELAYS=1s,2d")
	f.Add("policy: {timeout: 1d1h}", "POSTBUS_KILL_SWITCH__RATE=NaN")
	f.Add("groups: {1: {workers: 1}, true: }", "POSTBUS_GROUPS____WORKERS=1")
	f.Fuzz(func(t *testing.T, content, variable string) {
		if strings.Contains(content, "${file:") || strings.Contains(variable, "${file:") {
			t.Skip()
		}
		cfg, err := load(t, content, variable)
		if cfg == nil {
			t.Fatal("no configuration")
		}
		if err != nil {
			return
		}
		// What Load takes, it takes again when it is printed, and it says the same.
		text, err := cfg.Effective()
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Transport != config.URL(cfg.Transport.String()) || cfg.Store != config.URL(cfg.Store.String()) {
			return
		}
		again, err := load(t, text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if twice, err := again.Effective(); err != nil || twice != text {
			t.Errorf("%v; printed\n%s\nthen\n%s", err, text, twice)
		}
	})
}
