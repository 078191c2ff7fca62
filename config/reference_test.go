package config_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/postbus/postbus/config"
)

const reference = "../docs/configuration.md"

// property is what the table needs of a JSON schema.
type property struct {
	Type                 any
	Description, Pattern string
	Default              any
	Enum                 []string
	Properties           map[string]property
	AdditionalProperties any
	Items                *property
}

// rows writes a row for each key below a section.
func rows(t *testing.T, b *strings.Builder, before string, p property) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(p.Properties)) {
		below := p.Properties[key]
		name := before + key
		if entry, ok := below.AdditionalProperties.(map[string]any); ok { // named by the user
			encoded, err := json.Marshal(entry)
			if err != nil {
				t.Fatal(err)
			}
			var named property
			if err := json.Unmarshal(encoded, &named); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(b, "| `%s` | mapping | | %s |\n", name, below.Description)
			rows(t, b, name+".NAME.", named)
			continue
		}
		if below.Properties != nil {
			fmt.Fprintf(b, "| `%s` | mapping | | %s |\n", name, below.Description)
			rows(t, b, name+".", below)
			continue
		}
		preset := ""
		if below.Default != nil {
			preset = fmt.Sprintf("`%v`", below.Default)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", name, kind(below), preset, below.Description)
	}
}

func kind(p property) string {
	switch {
	case p.Pattern != "":
		return "duration"
	case p.Items != nil:
		return "list of durations"
	case len(p.Enum) > 0:
		return "`" + strings.Join(p.Enum, "` or `") + "`"
	}
	return fmt.Sprint(p.Type)
}

// TestReference holds docs/configuration.md to the schema.
func TestReference(t *testing.T) {
	t.Parallel()
	var root property
	if err := json.Unmarshal(config.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| key | type | default | |\n|---|---|---|---|\n")
	rows(t, &b, "", root)
	page, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	const mark = "<!-- keys -->\n"
	head, _, ok := strings.Cut(string(page), mark)
	if !ok {
		t.Fatalf("%s has no %q", reference, mark)
	}
	want := head + mark + b.String()
	if *update {
		if err := os.WriteFile(reference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(page) != want {
		t.Errorf("%s is not what the schema says; go test ./config -run Reference -update writes it", reference)
	}
}
