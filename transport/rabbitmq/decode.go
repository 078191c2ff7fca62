package rabbitmq

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/internal/wire"
	"github.com/postbus/postbus/transport"
)

// decode makes the message of any AMQP message, also of a foreign publisher: headers of any type become text, and what
// the headers leave open is taken from the properties. It also returns how often the broker says that the message was
// delivered before; at least 1 if it only says that it was.
func decode(d *amqp.Delivery) (m transport.Message, before int) {
	metadata := make(map[string]string, len(d.Headers)+2)
	id := d.MessageId
	for key, value := range d.Headers {
		switch {
		case key == uuidHeader:
			if text := headerText(value); text != "" {
				id = text
			}
		case key == "x-delivery-count", key == "x-acquired-count":
			before = max(before, int(min(integer(value), math.MaxInt32)))
		case strings.HasPrefix(key, ownPrefix):
			metadata[key[len(ownPrefix):]] = headerText(value)
		case brokerKey(key) && key != "CC":
			// the broker's own bookkeeping, as of the delay ladder
		default:
			if text, ok := value.(string); ok {
				metadata[key] = text
			} else {
				metadata[key] = headerText(value)
			}
		}
	}
	if before == 0 && d.Redelivered {
		before = 1
	}
	propertyTo(metadata, wire.KeyName, d.Type)
	propertyTo(metadata, wire.KeyContentType, d.ContentType)
	propertyTo(metadata, wire.KeyCorrelationID, d.CorrelationId)
	if !d.Timestamp.IsZero() {
		propertyTo(metadata, wire.KeyTime, d.Timestamp.UTC().Format(time.RFC3339Nano))
	}
	if id == "" {
		// Nothing on the message tells it from another, so that the ID differs between deliveries.
		id = uuid.Must(uuid.NewV7()).String()
	}
	return wire.Decode(id, metadata, d.Body), before
}

func propertyTo(metadata map[string]string, key, value string) {
	if value == "" {
		return
	}
	if _, there := metadata[key]; !there {
		metadata[key] = value
	}
}

func integer(v any) int64 {
	switch n := v.(type) {
	case int64:
		return n
	case int32:
		return int64(n)
	case int16:
		return int64(n)
	case int8:
		return int64(n)
	case byte:
		return int64(n)
	case uint16:
		return int64(n)
	case uint32:
		return int64(n)
	}
	return 0
}

// headerText writes any value of an AMQP table as text: numbers in decimal, times by RFC 3339, bytes as they are or, if
// they are no UTF-8, in base 64, tables and arrays in JSON.
func headerText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []byte:
		if utf8.Valid(v) {
			return string(v)
		}
		return base64.StdEncoding.EncodeToString(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339)
	case amqp.Decimal:
		return decimalText(v)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	case amqp.Table, []any:
		text, err := json.Marshal(jsonValue(v))
		if err != nil { // not possible: jsonValue leaves what JSON can hold
			return fmt.Sprint(v)
		}
		return string(text)
	}
	return fmt.Sprint(v)
}

func decimalText(d amqp.Decimal) string {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.Scale)), nil)
	return new(big.Rat).SetFrac(big.NewInt(int64(d.Value)), scale).FloatString(int(d.Scale))
}

func jsonValue(v any) any {
	switch v := v.(type) {
	case amqp.Table:
		m := make(map[string]any, len(v))
		for key, value := range v {
			m[key] = jsonValue(value)
		}
		return m
	case []any:
		a := make([]any, len(v))
		for i := range v {
			a[i] = jsonValue(v[i])
		}
		return a
	case nil, bool, string, int8, int16, int32, int64, byte, uint16, uint32:
		return v
	case float64:
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			return v
		}
	}
	return headerText(v)
}
