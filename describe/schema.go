package describe

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"
)

var (
	timeType      = reflect.TypeFor[time.Time]()
	numberType    = reflect.TypeFor[json.Number]()
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// schema is the JSON schema of what encoding/json makes of a value of typ. above are the structs that it is within, for a
// type that holds itself: there it may be anything.
func schema(typ reflect.Type, above []reflect.Type) object {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	encodes := func(as reflect.Type) bool { return typ.Implements(as) || reflect.PointerTo(typ).Implements(as) }
	switch {
	case typ == timeType:
		return object{"type": "string", "format": "date-time"}
	case typ == numberType:
		return object{"type": "number"}
	case encodes(jsonMarshaler), slices.Contains(above, typ):
		return object{}
	case encodes(textMarshaler):
		return object{"type": "string"}
	}
	switch typ.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return object{"type": "integer", "minimum": 0}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			return nullable(object{"type": "string", "contentEncoding": "base64"})
		}
		return nullable(object{"type": "array", "items": nullIf(typ.Elem(), schema(typ.Elem(), above))})
	case reflect.Array:
		return object{"type": "array", "items": nullIf(typ.Elem(), schema(typ.Elem(), above)), "minItems": typ.Len(), "maxItems": typ.Len()}
	case reflect.Map:
		return nullable(object{"type": "object", "additionalProperties": nullIf(typ.Elem(), schema(typ.Elem(), above))})
	case reflect.Struct:
		s := object{"type": "object"}
		properties, required := object{}, []string{}
		addFields(typ, append(slices.Clip(above), typ), properties, &required, true)
		if len(properties) > 0 {
			s["properties"] = properties
		}
		if len(required) > 0 {
			s["required"] = required
		}
		return s
	}
	return object{}
}

// addFields adds the fields of a struct, and those of the structs embedded in it, which give way to those outside. Those
// behind a pointer may all be missing: always is false.
func addFields(typ reflect.Type, above []reflect.Type, properties object, required *[]string, always bool) {
	var embedded []reflect.StructField
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case name == "-" && options == "":
			continue
		case f.Anonymous && name == "" && inner.Kind() == reflect.Struct:
			if !slices.Contains(above, inner) {
				embedded = append(embedded, f)
			}
			continue
		case !f.IsExported():
			continue
		case name == "":
			name = f.Name
		}
		if properties[name] != nil {
			continue
		}
		has := func(option string) bool { return slices.Contains(strings.Split(options, ","), option) }
		s := nullIf(f.Type, schema(f.Type, above))
		if kind := inner.Kind(); has("string") && (kind <= reflect.Float64 || kind == reflect.String) {
			s = nullIf(f.Type, object{"type": "string"})
		}
		properties[name] = s
		if always && !has("omitempty") && !has("omitzero") {
			*required = append(*required, name)
		}
	}
	for _, f := range embedded {
		inner, pointer := f.Type, f.Type.Kind() == reflect.Pointer
		if pointer {
			inner = inner.Elem()
		}
		addFields(inner, append(slices.Clip(above), inner), properties, required, always && !pointer)
	}
}

// nullIf lets s be null if typ is a pointer.
func nullIf(typ reflect.Type, s object) object {
	if typ.Kind() == reflect.Pointer {
		return nullable(s)
	}
	return s
}

func nullable(s object) object {
	if one, ok := s["type"].(string); ok {
		s["type"] = []string{one, "null"}
	}
	return s
}
