package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// field is one key of a section of the file.
type field struct {
	key, doc    string
	preset      string // the default
	least, most string
	enum        []string
	typ         reflect.Type
	index       []int
}

// fieldsOf returns the keys of a section, those of embedded structs among them.
func fieldsOf(typ reflect.Type) (fields []field) {
	for _, f := range reflect.VisibleFields(typ) {
		key := f.Tag.Get("key")
		if key == "" {
			continue
		}
		fields = append(fields, field{
			key: key, doc: f.Tag.Get("doc"), preset: f.Tag.Get("default"), least: f.Tag.Get("min"), most: f.Tag.Get("max"),
			typ: f.Type, index: f.Index,
		})
		if enum := f.Tag.Get("enum"); enum != "" {
			fields[len(fields)-1].enum = strings.Split(enum, ",")
		}
	}
	return fields
}

// unknownKey says which keys there are.
func unknownKey(known []field) error {
	var keys []string
	for _, f := range known {
		keys = append(keys, f.key)
	}
	slices.Sort(keys)
	return fmt.Errorf("unknown key; known: %s", strings.Join(keys, ", "))
}

func unknownVariable(rest string) error {
	section, names := "", variableNames(reflect.TypeFor[Config](), prefix)
	if i := strings.Index(rest, "__"); i >= 0 {
		section = prefix + rest[:i+2]
	}
	if close := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, section) }); len(close) > 0 {
		names = close
	}
	return errors.New("unknown variable; known: " + strings.Join(names, ", "))
}

func variableNames(typ reflect.Type, before string) (names []string) {
	switch typ.Kind() {
	case reflect.Pointer:
		return variableNames(typ.Elem(), before)
	case reflect.Map:
		return variableNames(typ.Elem(), before+"NAME__")
	case reflect.Struct:
		for _, f := range fieldsOf(typ) {
			below := before + screaming(f.key)
			if k := f.typ.Kind(); k == reflect.Struct || k == reflect.Map || k == reflect.Pointer {
				names = append(names, variableNames(f.typ, below+"__")...)
			} else {
				names = append(names, below)
			}
		}
	}
	return names
}
