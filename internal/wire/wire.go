// Package wire maps the envelope of a message to what Watermill's wire formats carry: a UUID, a map of text, a payload.
// All transports that travel on those formats share it, so that a message keeps its fields from any of them to any
// other, and a plain Watermill program can publish to the same topics and consume from them.
//
//	field          where               form
//	ID             the UUID            as it is; see KeyID for IDs that do not fit
//	Name           name                as it is; it is where Watermill's CQRS component keeps the name of an event
//	CorrelationID  correlation_id      as it is; it is where Watermill's middleware keeps it
//	Version        postbus_version     decimal
//	Key            postbus_key         as it is
//	Time           postbus_time        RFC 3339 with nanoseconds, in UTC
//	CausationID    postbus_causation_id, ContentType postbus_content_type, TargetGroup postbus_target_group: as they are
//	NotBefore      postbus_not_before  as Time
//	Attempts       postbus_attempts    decimal
//	Metadata[k]    k, or postbus_meta_k if k is one of the keys above or begins with "postbus_"
//
// Empty fields are not written. Because reserved keys of the user's metadata are escaped, metadata can neither overwrite
// a field nor be taken for one: what was encoded decodes to the same message, whatever it holds.
//
// Decoding never fails. What a foreign publisher wrote under a reserved key and is not of its form (a version "two", a
// time "soon") stays in Metadata under that key; texts that no transport may carry (not UTF-8, with a NUL, an empty key)
// are replaced at the offending places by U+FFFD, so that the message can be published again, for a retry or from
// quarantine.
package wire

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/postbus/postbus/transport"
)

// The metadata keys of the envelope's fields.
const (
	KeyName          = "name"           // cqrs.JSONMarshaler and cqrs.ProtoMarshaler of Watermill
	KeyCorrelationID = "correlation_id" // middleware.CorrelationIDMetadataKey of Watermill

	// Prefix begins all other keys. It is reserved, those included that are not in use yet.
	Prefix = "postbus_"

	// KeyID holds the ID where the carrier's UUID column cannot: see [Put].
	KeyID          = Prefix + "id"
	KeyVersion     = Prefix + "version"
	KeyKey         = Prefix + "key"
	KeyTime        = Prefix + "time"
	KeyCausationID = Prefix + "causation_id"
	KeyContentType = Prefix + "content_type"
	KeyTargetGroup = Prefix + "target_group"
	KeyNotBefore   = Prefix + "not_before"
	KeyAttempts    = Prefix + "attempts"

	// Escape precedes reserved keys in the user's metadata.
	Escape = Prefix + "meta_"
)

// reserved reports whether a key of the user's metadata must be escaped.
func reserved(key string) bool {
	return strings.HasPrefix(key, Prefix) || key == KeyName || key == KeyCorrelationID
}

// Encode returns the UUID and the metadata of m; the metadata is nil if there is none. It is [Put] into a new map.
func Encode(m *transport.Message, maxUUID int) (uuid string, metadata map[string]string) {
	uuid = Put(m, maxUUID, func(key, value string) {
		if metadata == nil {
			metadata = make(map[string]string, 4+len(m.Metadata))
		}
		metadata[key] = value
	})
	return uuid, metadata
}

// Put calls put for each entry of the metadata of m, in no particular order, and returns the UUID. No key comes twice.
//
// The UUID is the ID if the carrier can take it. A carrier that takes any text passes 0 for maxUUID. One with a column of
// maxUUID characters (36 in watermill-sql's tables) gets an ID that is longer, or not printable ASCII, under [KeyID], and
// as the UUID one that is derived from the ID (a version 8 UUID of RFC 9562 of its SHA-256), the same each time.
func Put(m *transport.Message, maxUUID int, put func(key, value string)) (uuid string) {
	if uuid = UUID(m.ID, maxUUID); uuid != m.ID {
		put(KeyID, m.ID)
	}
	for _, f := range [...]struct{ key, text string }{
		{KeyName, m.Name}, {KeyCorrelationID, m.CorrelationID}, {KeyKey, m.Key}, {KeyCausationID, m.CausationID},
		{KeyContentType, m.ContentType}, {KeyTargetGroup, m.TargetGroup},
	} {
		if f.text != "" {
			put(f.key, f.text)
		}
	}
	if m.Version != 0 {
		put(KeyVersion, strconv.Itoa(m.Version))
	}
	if m.Attempts != 0 {
		put(KeyAttempts, strconv.Itoa(m.Attempts))
	}
	if !m.Time.IsZero() {
		put(KeyTime, FormatTime(m.Time))
	}
	if !m.NotBefore.IsZero() {
		put(KeyNotBefore, FormatTime(m.NotBefore))
	}
	for k, v := range m.Metadata {
		if reserved(k) {
			k = Escape + k
		}
		put(k, v)
	}
	return uuid
}

// UUID is the UUID that [Put] gives to a message with the ID.
func UUID(id string, maxUUID int) string {
	if maxUUID > 0 && !fits(id, maxUUID) {
		return derive(id)
	}
	return id
}

func fits(id string, limit int) bool {
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return len(id) <= limit
}

func derive(id string) string {
	h := sha256.Sum256([]byte(id))
	h[6] = h[6]&0x0f | 0x80
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

var (
	earliest = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
)

// FormatTime is the form of times. RFC 3339 has the years 0 to 9999; times outside become its first or last.
func FormatTime(t time.Time) string {
	switch t = t.UTC(); {
	case t.Before(earliest):
		t = earliest
	case t.After(latest):
		t = latest
	}
	return t.Format(time.RFC3339Nano)
}
