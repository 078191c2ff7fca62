package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
)

// Effective returns the configuration as a YAML file that says everything: defaults are filled in, groups say what they
// have from the policy, and passwords are left out.
func (c *Config) Effective() (string, error) {
	full := *c
	full.Groups = map[string]Group{}
	for name, g := range c.Groups {
		g.Policy = over(g.Policy, c.Policy)
		full.Groups[name] = g
	}
	out, err := yaml.Parser().Marshal(effective(reflect.ValueOf(full)).(map[string]any))
	return string(out), err
}

func effective(v reflect.Value) any {
	switch {
	case v.Type() == durationType:
		return showDuration(time.Duration(v.Int()))
	case v.Type() == urlType:
		return URL(v.String()).String()
	case v.Kind() == reflect.Pointer && v.IsNil():
		return nil
	case v.Kind() == reflect.Pointer:
		return effective(v.Elem())
	case v.Kind() == reflect.Map:
		values := map[string]any{}
		for name, entry := range v.Seq2() {
			values[name.String()] = effective(entry)
		}
		return values
	case v.Kind() == reflect.Slice:
		values := make([]any, v.Len())
		for i := range values {
			values[i] = effective(v.Index(i))
		}
		return values
	case v.Kind() != reflect.Struct:
		return v.Interface()
	}
	values := map[string]any{}
	for _, f := range fieldsOf(v.Type()) {
		at := v.FieldByIndex(f.index)
		if at.IsZero() && f.preset != "" {
			preset := reflect.New(f.typ).Elem()
			if err := parse(preset, f.preset, true); err != nil {
				panic(fmt.Sprintf("config: default of %s: %v", f.key, err)) // a tag of this package, which the tests read
			}
			at = preset
		}
		if k := at.Kind(); !at.IsZero() || k == reflect.Bool || k == reflect.Struct || k == reflect.Map {
			values[f.key] = effective(at)
		}
	}
	return values
}

// showDuration is d in days where it is whole ones, and without parts that are zero: "7d", "1m", and not "1m0s".
func showDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return fmt.Sprint(int64(d/day), "d")
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
