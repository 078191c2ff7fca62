package rabbitmq

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/internal/wire"
	"github.com/postbus/postbus/transport"
)

const (
	uuidHeader = wamqp.DefaultMessageUUIDHeaderKey

	// ownPrefix precedes keys of the user's metadata that mean something to the broker or to Watermill's marshaler. The
	// user's own keys that begin with it are escaped by package wire.
	ownPrefix = wire.Prefix + "amqp_"

	// frameReserve is what a header frame takes beside the table of headers: properties, and framing.
	frameReserve = 1024
)

// brokerKey reports whether a header of that name cannot be used for metadata: the broker writes it, reads it (CC and BCC
// route, and close the channel if they are no arrays), or the marshaler does.
func brokerKey(key string) bool {
	switch key {
	case uuidHeader, "CC", "BCC", "x-delivery-count", "x-acquired-count":
		return true
	}
	return strings.HasPrefix(key, "x-death") || strings.HasPrefix(key, "x-first-death-") || strings.HasPrefix(key, "x-last-death-") ||
		strings.HasPrefix(key, ownPrefix)
}

// encode makes the AMQP message. It refuses what would make the broker or amqp091-go close the connection.
func encode(m *transport.Message, frameSize int) (amqp.Publishing, error) {
	headers := make(amqp.Table, 6+len(m.Metadata))
	size, long := frameReserve, ""
	put := func(key, value string) {
		if brokerKey(key) {
			key = ownPrefix + key
		}
		if len(key) > maxName {
			long = key
		}
		headers[key] = value
		size += len(key) + len(value) + 6
	}
	id := wire.Put(m, 0, put)
	headers[uuidHeader] = id
	size += len(uuidHeader) + len(id) + 6
	switch {
	case long != "":
		return amqp.Publishing{}, fmt.Errorf("%w: message %q: AMQP carries metadata keys of at most %d bytes, %.40q… has %d",
			transport.ErrUnsupported, m.ID, maxName, long, len(long))
	case frameSize > 0 && size > frameSize:
		return amqp.Publishing{}, fmt.Errorf("%w: message %q: metadata of about %d bytes do not fit into a frame of this broker, of %d",
			transport.ErrTooLarge, m.ID, size-frameReserve, frameSize)
	}
	p := amqp.Publishing{Headers: headers, DeliveryMode: amqp.Persistent, MessageId: id, Body: m.Payload}
	if len(id) > maxName {
		sum := sha256.Sum256([]byte(id))
		p.MessageId = hex.EncodeToString(sum[:])
	}
	// Properties for the eyes of others; what Postbus reads are the headers.
	if len(m.ContentType) <= maxName {
		p.ContentType = m.ContentType
	}
	if !m.Time.IsZero() && m.Time.Unix() > 0 {
		p.Timestamp = m.Time
	}
	return p, nil
}
