package sqllog

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"unicode/utf8"

	"github.com/postbus/postbus/internal/wire"
	"github.com/postbus/postbus/transport"
)

// uuidLength is the length of watermill-sql's column uuid.
const uuidLength = 36

// encoded is a message as columns.
type encoded struct {
	uuid, metadata string
	payload        []byte
}

func encode(m *transport.Message, asJSON bool) (encoded, error) {
	if asJSON && len(m.Payload) > 0 && (!json.Valid(m.Payload) || !utf8.Valid(m.Payload)) {
		return encoded{}, fmt.Errorf("%w: message %q: its payload is not JSON, and the table's column is; payload=bytea in the URL makes tables for any bytes",
			transport.ErrInvalid, m.ID)
	}
	b := make([]byte, 1, 256)
	b[0] = '{'
	uuid := wire.Put(m, uuidLength, func(k, v string) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = appendJSON(b, k)
		b = append(b, ':')
		b = appendJSON(b, v)
	})
	e := encoded{uuid: uuid, metadata: string(append(b, '}'))}
	if len(m.Payload) > 0 {
		e.payload = m.Payload
	}
	return e, nil
}

func appendJSON(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // a string always can be
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// Decode makes the message of the columns of a row.
func Decode(uuid string, metadata, payload []byte) *transport.Message {
	return decode(&Row{UUID: uuid, Metadata: metadata, Payload: payload})
}

func decode(r *Row) *transport.Message {
	metadata, ok := parseFlat(r.Metadata)
	if !ok {
		metadata = decodeForeign(r.Metadata)
	}
	decoded := wire.Decode(r.UUID, metadata, r.Payload)
	m := &decoded
	if m.ID == "" { // Watermill allows it; the place is the same for each delivery
		m.ID = "offset-" + r.Pos.String()
	}
	return m
}

// parseFlat reads an object of strings without escapes, as nearly all are.
func parseFlat(b []byte) (map[string]string, bool) {
	if len(b) == 0 {
		return nil, true
	}
	m := make(map[string]string, 8)
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return nil, false
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		return m, skipSpace(b, i+1) == len(b)
	}
	for {
		k, next, ok := plainString(b, i)
		if !ok {
			return nil, false
		}
		if i = skipSpace(b, next); i >= len(b) || b[i] != ':' {
			return nil, false
		}
		v, next, ok := plainString(b, skipSpace(b, i+1))
		if !ok {
			return nil, false
		}
		m[k] = v
		i = skipSpace(b, next)
		switch {
		case i >= len(b):
			return nil, false
		case b[i] == ',':
			i = skipSpace(b, i+1)
		case b[i] == '}':
			return m, skipSpace(b, i+1) == len(b)
		default:
			return nil, false
		}
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

func plainString(b []byte, i int) (string, int, bool) {
	if i >= len(b) || b[i] != '"' {
		return "", 0, false
	}
	for j := i + 1; j < len(b); j++ {
		switch c := b[j]; {
		case c == '"':
			return string(b[i+1 : j]), j + 1, true
		case c == '\\' || c < ' ' || c >= utf8.RuneSelf:
			return "", 0, false
		}
	}
	return "", 0, false
}

// decodeForeign reads whatever JSON a foreign publisher wrote; values that are no text are kept as JSON.
func decodeForeign(b []byte) map[string]string {
	var m map[string]string
	if json.Unmarshal(b, &m) == nil {
		return m
	}
	var raw map[string]json.RawMessage
	if json.Unmarshal(b, &raw) != nil {
		return map[string]string{"metadata": string(b)}
	}
	m = make(map[string]string, len(raw))
	for k, v := range raw {
		var s string
		if json.Unmarshal(v, &s) != nil {
			s = string(v)
		}
		m[k] = s
	}
	return m
}

// keyHash spreads keys over partitions; a message without a key goes by its ID.
func keyHash(m *transport.Message) int {
	h := fnv.New32a()
	if m.Key != "" {
		_, _ = h.Write([]byte(m.Key))
	} else {
		_, _ = h.Write([]byte(m.ID))
	}
	return int(h.Sum32() >> 1)
}

func itoa(n int) string { return strconv.Itoa(n) }
