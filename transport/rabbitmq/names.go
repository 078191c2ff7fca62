package rabbitmq

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// maxName is the length in bytes of AMQP's short strings, which names are.
const maxName = 255

// The names of the delay ladder; see exchangeName.
const (
	delayPrefix = "postbus.delay"
	delayOut    = "postbus.delay.out"
)

// exchangeName is injective. Only escaped names begin with "%", and what follows it there is what made the escape
// necessary; "%#" follows none of these, so that it marks the hashed names.
func exchangeName(topic string) string {
	if reservedName(topic) {
		topic = "%" + topic
	}
	if len(topic) > maxName {
		return shorten(topic, topic)
	}
	return topic
}

func reservedName(name string) bool {
	return strings.HasPrefix(name, "amq.") || strings.HasPrefix(name, delayPrefix) || strings.HasPrefix(name, "%")
}

// groupEscape keeps the last "_" of a queue's name the one between topic and group.
var groupEscape = strings.NewReplacer("%", "%25", "_", "%5F")

// queueName is injective over pairs of topic and group.
func queueName(topic, group string) string {
	if reservedName(topic) {
		topic = "%" + topic
	}
	escaped := group
	if strings.ContainsAny(group, "%_") {
		escaped = groupEscape.Replace(group)
	}
	name := topic + "_" + escaped
	if len(name) > maxName {
		return shorten(topic, topic+"\x00"+group)
	}
	return name
}

// shorten makes a name of at most maxName bytes from a hash of identity and the beginning of readable.
func shorten(readable, identity string) string {
	sum := sha256.Sum256([]byte(identity))
	mark := "%#" + hex.EncodeToString(sum[:16]) + "_"
	cut := min(len(readable), maxName-len(mark))
	for cut > 0 && cut < len(readable) && !utf8.RuneStart(readable[cut]) {
		cut--
	}
	return mark + readable[:cut]
}

// address is what ends the routing key of a delayed message: it names where the message goes, in a length that fits.
func address(kind byte, name string) string {
	sum := sha256.Sum256([]byte(name))
	return string(kind) + hex.EncodeToString(sum[:16])
}

// Kinds of address.
const (
	toExchange = 't'
	toQueue    = 'q'
)
