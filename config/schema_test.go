package config_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/config"
	"github.com/postbus/postbus/middleware"
	quarantines "github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
)

var update = flag.Bool("update", false, "write schema.json")

func TestSchemaFile(t *testing.T) {
	t.Parallel()
	if *update {
		if err := os.WriteFile("schema.json", config.Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile("schema.json")
	if err != nil || !bytes.Equal(file, config.Schema()) {
		t.Errorf("schema.json is not Schema() (%v); go test ./config -run SchemaFile -update writes it", err)
	}
}

// TestTheSchemaTakesWhatLoadTakes compares the two on single lines.
func TestTheSchemaTakesWhatLoadTakes(t *testing.T) {
	t.Parallel()
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("schema.json", parsed); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json") // against its metaschema
	if err != nil {
		t.Fatal(err)
	}
	good := []string{full, "", "groups:", "kill_switch:", "policy: {delays: []}", "kill_switch: {rate: 0.5}", "groups: {a: {}}",
		"stop_timeout: 1d", "stop_timeout: 1h30m", "stop_timeout: 1.5s", "stop_timeout: 2d3h", "stop_timeout: '0'"}
	bad := []string{"nmae: x", "name: 3", "stop_timeout: 30", "stop_timeout: '30'", "stop_timeout: -1s", "stop_timeout: soon",
		"stop_timeout: 3 s", "policy: {attempts: 0}", "policy: {attempts: '3'}", "policy: {delays: 1s}", "policy: {delays: [1]}",
		"groups: []", "groups: {a: 1}", "groups: {a: {workers: 0}}", "groups: {a: {workers: 1.5}}", "groups: {a: {workers: }}",
		"groups: {a: {keep_order: yes!}}", "groups: {a: {park_keys: 1}}", "telemetry: {signals: logs}", "groups: {a: {delivery: twice}}", "kill_switch: {rate: 2}", "kill_switch: {rate: }",
		"kill_switch: 1", "name:", "policy: {retry: {tries: 3}}"}
	for i, content := range append(good, bad...) {
		values, err := yaml.Parser().Unmarshal([]byte(content))
		if err != nil {
			t.Fatal(err)
		}
		bySchema := schema.Validate(any(map[string]any(values)))
		if values == nil {
			bySchema = nil // an empty file
		}
		_, byLoad := load(t, content)
		if want := i < len(good); (bySchema == nil) != want || (byLoad == nil) != want {
			t.Errorf("%q: the schema says %v, Load says %v; want good: %t", content, bySchema, byLoad, want)
		}
	}
}

func TestDefaultsAreThoseOfThePackages(t *testing.T) {
	t.Parallel()
	cfg, err := load(t, "kill_switch:\ngroups: {g: {}}\nstore: sqlite:shop.db\n")
	if err != nil {
		t.Fatal(err)
	}
	text, err := cfg.Effective()
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`groups:
    g:
        backoff:
            max: %v
            min: %v
        delivery: at least once
        keep_order: false
        park_keys: false
        retry:
            attempts: %d
            delay: %v
            max_delay: %v
        workers: %d
kill_switch:
    min_deliveries: %d
    pause: %v
    rate: %v
    window: %v
name: postbus
policy:
    retry:
        attempts: 3
        delay: 50ms
        max_delay: 1s
quarantine:
    replayed: %dd
retention:
    inbox: %dd
    sagas: %dd
stop_timeout: %v
store: sqlite:shop.db
telemetry:
    signals: all
    system: postbus
transport: '%s'
`, bus.DefaultMaxBackoff, bus.DefaultMinBackoff, middleware.DefaultRetryAttempts, middleware.DefaultRetryDelay,
		middleware.DefaultRetryMaxDelay, bus.DefaultWorkers, middleware.DefaultKillSwitchMinDeliveries,
		middleware.DefaultKillSwitchPause, middleware.DefaultKillSwitchRate, middleware.DefaultKillSwitchWindow,
		quarantines.DefaultReplayedRetention/(24*time.Hour), outbox.DefaultInboxRetention/(24*time.Hour), saga.DefaultRetention/(24*time.Hour), bus.DefaultStopTimeout, config.DefaultTransport)
	if want = strings.ReplaceAll(want, "m0s", "m"); text != want {
		t.Errorf("effective\n%s\nwant\n%s", text, want)
	}
}
