package config

import (
	"encoding/json"
	"reflect"
	"strconv"
	"time"
)

// Schema returns the JSON schema (draft 2020-12) of the file. What Load refuses beyond it is between keys: URLs whose
// driver is missing, and a time that is longer than the one that bounds it.
func Schema() []byte {
	root := schemaOf(reflect.TypeFor[Config](), field{})
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Configuration of a program on Postbus"
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic("config: schema: " + err.Error()) // of constants
	}
	return append(out, '\n')
}

// durations is what duration takes.
const durations = `^(0|[0-9]+d|([0-9]+d)?([0-9]*\.?[0-9]+(ns|us|µs|μs|ms|s|m|h))+)$`

type object = map[string]any

func schemaOf(typ reflect.Type, f field) object {
	s := object{}
	switch {
	case typ == durationType:
		s["type"], s["pattern"] = "string", durations
	case typ.Kind() == reflect.Pointer:
		s = schemaOf(typ.Elem(), f)
		s["type"] = []string{"object", "null"}
	case typ.Kind() == reflect.Map:
		s["type"], s["additionalProperties"] = []string{"object", "null"}, schemaOf(typ.Elem(), field{})
	case typ.Kind() == reflect.Slice:
		s["type"], s["items"] = "array", schemaOf(typ.Elem(), field{})
	case typ.Kind() == reflect.Struct:
		properties := object{}
		for _, f := range fieldsOf(typ) {
			properties[f.key] = schemaOf(f.typ, f)
		}
		s["type"], s["properties"], s["additionalProperties"] = []string{"object", "null"}, properties, false
	case typ.Kind() == reflect.Int:
		s["type"] = "integer"
	case typ.Kind() == reflect.Float64:
		s["type"] = "number"
	case typ.Kind() == reflect.Bool:
		s["type"] = "boolean"
	default:
		s["type"] = "string"
	}
	if f.doc != "" {
		s["description"] = f.doc
	}
	if len(f.enum) > 0 {
		s["enum"] = f.enum
	}
	for key, text := range map[string]string{"default": f.preset, "minimum": f.least, "maximum": f.most} {
		if number, isNumber := number(typ, text); text != "" && isNumber {
			s[key] = number
		} else if text != "" && key == "default" {
			s[key] = text
		}
	}
	return s
}

// number is what text says for a key of a type, where that is no text in JSON.
func number(typ reflect.Type, text string) (any, bool) {
	if typ == reflect.TypeFor[time.Duration]() {
		return nil, false
	}
	switch typ.Kind() {
	case reflect.Int, reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		return n, err == nil
	case reflect.Bool:
		return text == "true", true
	}
	return nil, false
}
