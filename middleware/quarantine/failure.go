package quarantine

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/wire"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport"
)

// Bounds of what is kept of a failure, in bytes and in entries.
const (
	maxError   = 16 << 10
	maxChain   = 32
	maxStack   = 64 << 10
	maxHistory = 50
	maxPast    = 1 << 10 // of an error in the history
)

// failure is a message that could not be handled, or one that waits behind such a one, ready to be written.
type failure struct {
	kind    // its errors are the chain, outside in
	status  Status
	ident   []byte
	topic   string
	message *transport.Message // with its payload
	headers map[string]string
	attempt int
	at      int64
	stack   string
	lost    bool   // the cause says nothing about why
	token   string // of the replay that brought it
	line    []byte // if its key is parked
	number  int64  // of the key
}

// newArrival is a message that was not tried. What travels by reference is encoded.
func newArrival(d *bus.Delivery) (*failure, error) {
	m, err := d.Encoded()
	if err != nil {
		return nil, fmt.Errorf("encode the message: %w", err)
	}
	f := &failure{
		status: Parked, ident: identify(d.Group, d.Topic, m.ID), topic: d.Topic, message: m, headers: headersOf(m),
		at: nowMS(), token: m.Metadata[MetadataReplay],
	}
	f.group, f.event = d.Group, cut(m.Name, transport.MaxNameLength)
	if m.Key != "" {
		f.line = lineOf(d.Group, d.Topic, m.Key)
	}
	return f, nil
}

func newFailure(d *bus.Delivery, cause error) (*failure, error) {
	f, err := newArrival(d)
	if err != nil {
		return nil, err
	}
	if cause == nil {
		cause = errors.New("no cause was given")
	}
	f.status, f.attempt, f.lost = Waiting, d.Attempt, errors.Is(cause, middleware.ErrAttempts)
	f.errors, f.stack = chain(cause)
	f.fp = fingerprint(f.group, f.event, pattern(f.errors[len(f.errors)-1]))
	return f, nil
}

// headersOf returns the envelope of m, without the mark of a replay.
func headersOf(m *transport.Message) map[string]string {
	if _, replayed := m.Metadata[MetadataReplay]; replayed {
		plain := *m
		plain.Metadata = maps.Clone(m.Metadata)
		delete(plain.Metadata, MetadataReplay)
		m = &plain
	}
	id, headers := wire.Encode(m, 0)
	if headers == nil {
		headers = map[string]string{}
	}
	headers[wire.KeyID] = id
	return headers
}

// messageOf undoes headersOf.
func messageOf(headers map[string]string, payload []byte) *transport.Message {
	m := wire.Decode("", maps.Clone(headers), payload)
	return &m
}

// chain returns the texts of cause and of what it wraps, outside in, without what says the same as the one before; of
// several errors that are wrapped together it follows the last, which as a rule is the cause. The stack is that of a panic,
// which stands in none of the texts.
func chain(cause error) (texts []string, stack string) {
	var panicked *middleware.PanicError
	if errors.As(cause, &panicked) {
		stack = string(panicked.Stack)
	}
	for err := cause; err != nil && len(texts) < maxChain; err = unwrap(err) {
		text := err.Error()
		if stack != "" {
			text = strings.ReplaceAll(text, "\n"+stack, "")
		}
		text = cut(text, maxError)
		if len(texts) == 0 || texts[len(texts)-1] != text {
			texts = append(texts, text)
		}
	}
	return texts, cut(stack, maxStack)
}

func unwrap(err error) error {
	switch w := err.(type) {
	case interface{ Unwrap() error }:
		return w.Unwrap()
	case interface{ Unwrap() []error }:
		if list := w.Unwrap(); len(list) > 0 {
			return list[len(list)-1]
		}
	}
	return nil
}
