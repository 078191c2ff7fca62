package sqllog

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	messagesPrefix = "watermill_"
	offsetsPrefix  = "watermill_offsets_"
	// longestTopic leaves room for offsetsPrefix in the 63 bytes of a PostgreSQL identifier.
	longestTopic = 45
	// longestGroup leaves room for the suffix of a partition in the 255 characters of consumer_group.
	longestGroup = 230
)

// TableNames returns the names of the tables of a topic. Short lower-case names of Watermill's alphabet stand as they
// are; with upper, upper-case ones too. All others are shortened and carry a hash of the whole name behind a "~", which
// no name that stands as it is can hold.
func TableNames(topic string, upper bool) (messages, offsets string) {
	name := topic
	if !plainTopic(topic, upper) {
		name = hashed(topic)
	}
	return messagesPrefix + name, offsetsPrefix + name
}

func plainTopic(s string, upper bool) bool {
	// The offsets table of x must not be the messages table of offsets_x, nor may one topic's table be named as the
	// index or sequence that PostgreSQL makes for another's.
	if len(s) > longestTopic || strings.HasPrefix(s, "offsets_") ||
		strings.HasSuffix(s, "_pkey") || strings.HasSuffix(s, "_seq") || strings.HasSuffix(s, "_check") {
		return false
	}
	return alphabet(s, upper, "_-.:$")
}

func alphabet(s string, upper bool, punctuation string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', upper && c >= 'A' && c <= 'Z':
		case strings.IndexByte(punctuation, c) >= 0:
		default:
			return false
		}
	}
	return true
}

// hashed returns at most 43 bytes: what a person may recognise, and 128 bits that tell names apart.
func hashed(s string) string {
	sum := sha256.Sum256([]byte(s))
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() < 10; i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			b.WriteByte(c)
		case c >= 'A' && c <= 'Z':
			b.WriteByte(c + 'a' - 'A')
		default:
			b.WriteByte('_')
		}
	}
	return b.String() + "~" + hex.EncodeToString(sum[:16])
}

// consumerName is what stands for a group in the column consumer_group, whose collation may fold case and drop spaces.
func consumerName(group string, part, parts int) string {
	name := group
	if len(group) > longestGroup || !alphabet(group, false, "_-.:$/@+ ,=") {
		name = hashed(group)
	}
	if parts > 1 {
		name += "#" + itoa(part) + "/" + itoa(parts)
	}
	return name
}
