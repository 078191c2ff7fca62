package wire

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postbus/postbus/transport"
)

// Decode makes the message of what a carrier brought. It takes the map metadata over and changes it; what is left of it
// is Metadata, nil if that is empty. If uuid is empty, as Watermill allows, so is ID, and the caller must find one, the
// same for each delivery where it can. Everything else passes [transport.Message.Check].
func Decode(uuid string, metadata map[string]string, payload []byte) transport.Message {
	m := transport.Message{ID: mend(uuid), Payload: payload}
	var odd []string // keys of entries that cannot stay as they are
	for k, v := range metadata {
		switch {
		case take(&m, k, v):
			delete(metadata, k)
		case k == "" || mend(k) != k || mend(v) != v || unescape(k) != k:
			odd = append(odd, k)
		}
	}
	if odd != nil {
		rename(metadata, odd)
	}
	if len(metadata) > 0 {
		m.Metadata = metadata
	}
	return m
}

// take reads an entry into its field and reports whether it is one of a field, and of its form.
func take(m *transport.Message, key, value string) bool {
	if !reserved(key) || value == "" {
		return false
	}
	switch key {
	case KeyID:
		m.ID = mend(value)
	case KeyName:
		m.Name = mend(value)
	case KeyCorrelationID:
		m.CorrelationID = mend(value)
	case KeyKey:
		m.Key = mend(value)
	case KeyCausationID:
		m.CausationID = mend(value)
	case KeyContentType:
		m.ContentType = mend(value)
	case KeyTargetGroup:
		m.TargetGroup = mend(value)
	case KeyVersion:
		return takeNumber(&m.Version, value)
	case KeyAttempts:
		return takeNumber(&m.Attempts, value)
	case KeyTime:
		return takeTime(&m.Time, value)
	case KeyNotBefore:
		return takeTime(&m.NotBefore, value)
	default:
		return false
	}
	return true
}

func takeNumber(into *int, value string) bool {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return false
	}
	*into = n
	return true
}

func takeTime(into *time.Time, value string) bool {
	t, err := time.Parse(time.RFC3339Nano, value)
	if err != nil {
		return false
	}
	*into = t.UTC()
	return true
}

// unescape undoes Escape where Put writes it.
func unescape(key string) string {
	if rest, ok := strings.CutPrefix(key, Escape); ok && reserved(rest) {
		return rest
	}
	return key
}

// rename gives the entries of keys their own or a well-formed key. All leave before the first returns, for one's new key
// can be the old one of another; where two meet nevertheless, the later gets a suffix.
func rename(metadata map[string]string, keys []string) {
	slices.Sort(keys)
	values := make([]string, len(keys))
	for i, k := range keys {
		values[i] = mend(metadata[k])
		delete(metadata, k)
	}
	for i, k := range keys {
		k = mend(unescape(k))
		for _, taken := metadata[k]; taken || k == ""; _, taken = metadata[k] {
			k += string(utf8.RuneError)
		}
		metadata[k] = values[i]
	}
}

// mend replaces what Message.Check refuses in a text.
func mend(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, string(utf8.RuneError)), "\x00", string(utf8.RuneError))
}
