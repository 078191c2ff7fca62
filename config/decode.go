package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	urlType      = reflect.TypeFor[URL]()
)

// decode fills cfg; what is wrong stays zero and is a mistake.
func (l *loader) decode(cfg *Config, raw map[string]any) {
	l.section(reflect.ValueOf(cfg).Elem(), "", raw)
}

func (l *loader) section(v reflect.Value, key string, raw map[string]any) {
	fields := fieldsOf(v.Type())
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == name })
		if i < 0 {
			l.mistake(join(key, name), "%w", unknownKey(fields))
			continue
		}
		l.value(v.FieldByIndex(fields[i].index), fields[i], join(key, name), raw[name])
	}
}

// value decodes raw. A section that says nothing is there, and empty.
func (l *loader) value(v reflect.Value, f field, key string, raw any) {
	if k := v.Kind(); raw == nil && (k == reflect.Struct || k == reflect.Map) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		if raw != nil {
			l.value(v.Elem(), f, key, raw)
		}
	case reflect.Struct, reflect.Map:
		values, ok := raw.(map[string]any)
		switch {
		case !ok:
			l.mistake(key, "%s is not a mapping", show(raw))
		case v.Kind() == reflect.Struct:
			l.section(v, key, values)
		default:
			l.entries(v, f, key, values)
		}
	case reflect.Slice:
		l.list(v, f, key, raw)
	default:
		l.scalar(v, f, key, raw)
	}
}

func (l *loader) entries(v reflect.Value, f field, key string, values map[string]any) {
	v.Set(reflect.MakeMap(v.Type()))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		entry := reflect.New(v.Type().Elem()).Elem()
		l.value(entry, f, join(key, name), values[name])
		v.SetMapIndex(reflect.ValueOf(name), entry)
	}
}

func (l *loader) list(v reflect.Value, f field, key string, raw any) {
	values, ok := raw.([]any)
	if text, fromVariable := raw.(string); fromVariable && l.variables[key] != "" {
		for part := range strings.SplitSeq(text, ",") {
			values = append(values, strings.TrimSpace(part))
		}
	} else if !ok {
		l.mistake(key, "%s is not a list", show(raw))
		return
	}
	list := reflect.MakeSlice(v.Type(), len(values), len(values))
	for i, value := range values {
		l.scalar(list.Index(i), f, fmt.Sprintf("%s.%d", key, i+1), value)
	}
	v.Set(list)
}

func (l *loader) scalar(v reflect.Value, f field, key string, raw any) {
	if text, ok := raw.(string); ok {
		with, err := expand(text)
		if err != nil {
			l.mistake(key, "%w", err)
			return
		}
		raw = with
	}
	err := parse(v, raw, l.fromVariable(key))
	if err == nil {
		err = f.limits(v)
	}
	if err != nil {
		v.SetZero()
		l.mistake(key, "%w", err)
	}
}

// fromVariable tells whether a key, or the list that it is a part of, is an environment variable's, which has no types.
func (l *loader) fromVariable(key string) bool {
	list := key[:max(0, strings.LastIndexByte(key, '.'))]
	return l.variables[key] != "" || l.variables[list] != ""
}

// parse sets v. Text stands for other types only if it is a variable's.
func parse(v reflect.Value, raw any, variable bool) error {
	text, isText := raw.(string)
	wrong := func(want string) error { return fmt.Errorf("%s is not %s", show(raw), want) }
	switch {
	case v.Type() == durationType:
		if !isText {
			return fmt.Errorf("%s has no unit: write 500ms, 30s, 5m, 2h or 7d", show(raw))
		}
		d, err := duration(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(d))
	case v.Type() == urlType && !isText:
		return errors.New("the value, which is not shown, is not a text")
	case v.Kind() == reflect.String:
		if !isText {
			return wrong("a text (in quotes it is one)")
		}
		v.SetString(text)
	case v.Kind() == reflect.Int:
		n, ok := raw.(int)
		if variable {
			var err error
			n, err = strconv.Atoi(text)
			ok = err == nil
		}
		if !ok {
			return wrong("a whole number")
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.Float64:
		n, ok := raw.(float64)
		if i, whole := raw.(int); whole {
			n, ok = float64(i), true
		} else if variable {
			var err error
			n, err = strconv.ParseFloat(text, 64)
			ok = err == nil
		}
		if !ok || math.IsNaN(n) || math.IsInf(n, 0) {
			return wrong("a number")
		}
		v.SetFloat(n)
	case v.Kind() == reflect.Bool:
		b, ok := raw.(bool)
		if variable {
			b, ok = text == "true", text == "true" || text == "false"
		}
		if !ok {
			return wrong("true or false")
		}
		v.SetBool(b)
	default:
		return fmt.Errorf("config: no parser for %v", v.Type())
	}
	return nil
}

// duration is time.ParseDuration, with days: "7d", "1d12h".
func duration(text string) (time.Duration, error) {
	days, rest, _ := strings.Cut(text, "d")
	n, err := strconv.Atoi(days)
	if err != nil || len(days) == len(text) {
		n, rest = 0, text
	}
	if n < 0 || n > 100_000 {
		return 0, fmt.Errorf("%s is out of range", show(text))
	}
	d := time.Duration(n) * 24 * time.Hour
	if rest == "" && n > 0 {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	switch {
	case err != nil && !strings.ContainsAny(text, "smhd"):
		return 0, fmt.Errorf("%s has no unit: write 500ms, 30s, 5m, 2h or 7d", show(text))
	case err != nil:
		return 0, fmt.Errorf("%s is not a duration: write 500ms, 30s, 5m, 2h or 7d", show(text))
	case more < 0:
		return 0, fmt.Errorf("%s must not be negative", show(text))
	}
	return d + more, nil
}

// show is a value for an error.
func show(raw any) string {
	switch raw := raw.(type) {
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	case nil:
		return "nothing"
	case string:
		return strconv.Quote(withoutURLs(raw))
	}
	return fmt.Sprint(raw)
}

// limits reports what is beyond the limits of the key.
func (f field) limits(v reflect.Value) error {
	if len(f.enum) > 0 && !slices.Contains(f.enum, v.String()) {
		return fmt.Errorf("%s is unknown; known: %q", show(v.String()), f.enum)
	}
	for _, limit := range [...]struct {
		text, word string
		sign       int
	}{{f.least, "less", -1}, {f.most, "more", 1}} {
		if limit.text == "" {
			continue
		}
		bound := reflect.New(v.Type()).Elem()
		if err := parse(bound, limit.text, true); err != nil {
			return err
		}
		if compare(v, bound) == limit.sign {
			return fmt.Errorf("%v must not be %s than %v", v.Interface(), limit.word, bound.Interface())
		}
	}
	return nil
}

func compare(a, b reflect.Value) int {
	number := func(v reflect.Value) float64 {
		if v.CanFloat() {
			return v.Float()
		}
		return float64(v.Int())
	}
	switch x, y := number(a), number(b); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
