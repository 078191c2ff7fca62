package quarantine

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// patternLength is how much of an error counts, in bytes.
const patternLength = 300

// what differs between failures of one kind: quoted values, UUIDs, numbers in hexadecimal, and any other numbers, with
// what they are written together with, such as addresses and times.
var variable = regexp.MustCompile(
	`"(?:[^"\\]|\\.)*"|'[^'\s]*'|` + "`[^`]*`" +
		`|\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b` +
		`|\b0[xX][0-9a-fA-F]+\b` +
		`|\b[0-9a-fA-F]{8,}\b` +
		`|[0-9]+(?:[.,:][0-9]+)*`)

// pattern is the text of an error without what differs between failures of one kind.
func pattern(text string) string {
	text = strings.ToValidUTF8(cut(text, 4*patternLength), "")
	text = variable.ReplaceAllStringFunc(text, func(found string) string {
		if !strings.ContainsAny(found, "0123456789\"'`") { // a word that happens to have the letters of hexadecimal digits
			return found
		}
		return "#"
	})
	return cut(strings.Join(strings.Fields(text), " "), patternLength)
}

// fingerprint names the failures of a group with an event that have one pattern.
func fingerprint(group, event, pattern string) string {
	h := sha256.New()
	for _, part := range [...]string{group, event, pattern} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// identify returns the key under which there is one entry for a message: it begins with what all entries of one message
// id have in common.
func identify(group, topic, id string) []byte {
	message, place := sha256.Sum256([]byte(id)), sha256.Sum256([]byte(topic+"\x00"+group))
	return append(message[:16:16], place[:16]...)
}

// cut returns text, or its beginning if it is longer than n bytes.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && text[n]&0xc0 == 0x80 { // within a rune
		n--
	}
	return text[:n]
}
