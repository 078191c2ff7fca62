package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// Mistake is one mistake in a configuration.
type Mistake struct {
	// Key is the key in the file, such as "groups.billing.workers"; empty if it is about the whole.
	Key string
	// Source is the file or the environment variable that says it.
	Source string
	Err    error
}

func (m Mistake) String() string {
	if m.Key == "" {
		return fmt.Sprintf("%s: %v", m.Source, m.Err)
	}
	return fmt.Sprintf("%s: %s: %v", m.Source, m.Key, m.Err)
}

// Error is every mistake of a configuration.
type Error struct{ Mistakes []Mistake }

// Error has a line for each mistake.
func (e *Error) Error() string {
	lines := make([]string, len(e.Mistakes))
	for i, m := range e.Mistakes {
		lines[i] = "\t" + m.String()
	}
	return "config:\n" + strings.Join(lines, "\n")
}

// Unwrap returns the causes, for errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, m := range e.Mistakes {
		errs = append(errs, m.Err)
	}
	return errs
}

// Load reads a YAML file, none if its name is empty, and lays the variables of environ, as os.Environ has them, over it.
// The error is an *Error with every mistake; the configuration is there all the same, without what is wrong.
func Load(file string, environ []string) (*Config, error) {
	l := &loader{file: filepath.Base(file), variables: map[string]string{}}
	k := koanf.New("\x00") // a delimiter that no key has: groups can have dots
	if file != "" {
		l.load(k, l.readFile(file))
	}
	l.load(k, l.readEnvironment(environ, k.Raw()))
	cfg := &Config{}
	l.decode(cfg, k.Raw())
	l.check(cfg)
	if len(l.mistakes) > 0 {
		return cfg, &Error{l.mistakes}
	}
	return cfg, nil
}

// loader reads one configuration.
type loader struct {
	file      string
	variables map[string]string // the environment variable that says a key
	mistakes  []Mistake
}

func (l *loader) mistake(key, format string, args ...any) {
	source := l.file
	for at := key; at != ""; {
		if name, ok := l.variables[at]; ok {
			source = name
			break
		}
		at = at[:max(0, strings.LastIndexByte(at, '.'))]
	}
	l.mistakes = append(l.mistakes, Mistake{key, source, fmt.Errorf(format, args...)})
}

func (l *loader) load(k *koanf.Koanf, values map[string]any) {
	if err := k.Load(confmap.Provider(values, ""), nil); err != nil {
		l.mistake("", "%w", err)
	}
}

func (l *loader) readFile(file string) map[string]any {
	content, err := os.ReadFile(file)
	if err == nil && strings.TrimSpace(string(content)) != "" {
		var values map[string]any
		if values, err = yaml.Parser().Unmarshal(content); err == nil {
			if more := secondDocument.FindIndex(content); more != nil {
				l.mistake("", "line %d: there is more after \"---\": a file is one document", 1+bytes.Count(bytes.TrimRight(content[:more[1]], " \t\r\n"), []byte("\n")))
			}
			return values
		}
		text := withoutURLs(err.Error())
		if strings.Contains(text, "mapping values are not allowed") {
			text += `: a text that holds ": " or ends in a colon, as memory: does, needs quotes`
		}
		err = errors.New(text)
	}
	if err != nil {
		l.mistake("", "%w", err)
	}
	return nil
}

// secondDocument finds the line between two documents, of which only the first is read. What stands before the first
// may be comments.
var secondDocument = regexp.MustCompile(`(?m)^[^#\s-](?:.|\n)*?^---(?:\s|$)`)

// join makes the key of what is below a key.
func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}
