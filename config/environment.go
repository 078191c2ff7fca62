package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

const prefix = "POSTBUS_"

// foreign begin variables with the prefix that are not about the configuration.
var foreign = []string{"TEST_", "SERVICES_", "SERVICE_", "PORT"}

// readEnvironment returns the values of variables, by their keys. inFile is what they are laid over.
func (l *loader) readEnvironment(environ []string, inFile map[string]any) map[string]any {
	values := map[string]any{}
	byName := func(a, b string) int { return strings.Compare(nameOf(a), nameOf(b)) }
	for _, variable := range slices.SortedStableFunc(slices.Values(environ), byName) { // of two values of a name the later counts
		name, value, _ := strings.Cut(variable, "=")
		rest, ours := strings.CutPrefix(name, prefix)
		if !ours || value == "" || slices.ContainsFunc(foreign, func(p string) bool { return strings.HasPrefix(rest, p) }) {
			continue
		}
		path, known := locate(reflect.TypeFor[Config](), strings.Split(rest, "__"), inFile)
		if !known {
			l.mistakes = append(l.mistakes, Mistake{"", name, unknownVariable(rest)})
			continue
		}
		into := values
		for _, part := range path[:len(path)-1] {
			below, ok := into[part].(map[string]any)
			if !ok {
				below = map[string]any{}
				into[part] = below
			}
			into = below
		}
		into[path[len(path)-1]] = value
		l.variables[strings.Join(path, ".")] = name
	}
	return values
}

func nameOf(variable string) string {
	name, _, _ := strings.Cut(variable, "=")
	return name
}

// locate returns the path of keys that the parts of a variable's name stand for.
func locate(typ reflect.Type, parts []string, inFile any) (path []string, known bool) {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	values, _ := inFile.(map[string]any)
	switch {
	case len(parts) == 0:
		return nil, typ.Kind() != reflect.Struct && typ.Kind() != reflect.Map
	case typ.Kind() == reflect.Struct:
		for _, f := range fieldsOf(typ) {
			if screaming(f.key) == parts[0] {
				path, known = locate(f.typ, parts[1:], values[f.key])
				return append([]string{f.key}, path...), known
			}
		}
	case typ.Kind() == reflect.Map && parts[0] != "":
		name := strings.ToLower(parts[0])
		for _, inFile := range slices.Sorted(maps.Keys(values)) {
			if screaming(inFile) == parts[0] {
				name = inFile
				break
			}
		}
		path, known = locate(typ.Elem(), parts[1:], values[name])
		return append([]string{name}, path...), known
	}
	return nil, false
}

// screaming is how a key is written in the name of a variable.
func screaming(key string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToUpper(r)
		}
		return '_'
	}, key)
}
