package bus

import (
	"context"
	"sync/atomic"

	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/transport"
)

// Delivery is a message on its way through the chain of a group.
type Delivery struct {
	// Topic is where the message travelled.
	Topic string
	// Group is the group that handles it.
	Group string
	// Attempt counts the deliveries of this message to this group, this one included; see transport.Delivery.
	Attempt int
	// Tries counts how often the handler has been entered during this delivery: 0 before the first try. A retry in
	// process raises it, a redelivery begins anew.
	Tries int
	// Batch numbers what the transport brought at once: it grows with each batch of a topic and a group, and is 0 outside
	// of a bus. Middleware that must know something as of after a message came finds it out once for each batch.
	Batch uint64
	// Logged says that middleware has logged the error with which this delivery failed. The bus, which logs it otherwise,
	// then only says what becomes of the message: at slog.LevelDebug, if it comes again.
	Logged bool

	// message is atomic because a goroutine that a handler has left behind may publish with its context, and so ask for
	// the message, while middleware takes back the one that it has set.
	message   atomic.Pointer[transport.Message]
	letter    *letter    // makes the message, if it is nil
	publisher *publisher // knows the codecs; nil without a bus
	failure   error      // the outcome of a try that could not return, to be returned by the next
}

// NewDelivery returns a delivery as of a bus, for code that handles deliveries without one, such as tests.
func NewDelivery(m *transport.Message, topic, group string, attempt int) *Delivery {
	d := &Delivery{Topic: topic, Group: group, Attempt: attempt}
	d.SetMessage(m)
	return d
}

// Message returns the envelope. It must not be changed, for other groups and later deliveries can share it. An event that
// travels by reference gets its envelope when it is asked for first.
func (d *Delivery) Message() *transport.Message {
	m := d.message.Load()
	if m == nil && d.letter != nil {
		return d.letter.Message()
	}
	return m
}

// Key returns the key of the message, without making its envelope.
func (d *Delivery) Key() string {
	if m := d.message.Load(); m == nil && d.letter != nil {
		return d.letter.key
	}
	return d.Message().Key
}

// Encoded is Message with a payload in any case: that of an event that travels by reference is encoded now, as
// publishing it on another transport would have done. The error is that of the codec.
func (d *Delivery) Encoded() (*transport.Message, error) {
	m := d.Message()
	if m.Value == nil || m.Payload != nil {
		return m, nil
	}
	encoded := *m
	encoded.Value = nil
	var err error
	encoded.Payload, encoded.ContentType, err = d.codecs().encode(m.Value)
	return &encoded, err
}

// codecs returns what encodes and decodes the event.
func (d *Delivery) codecs() *publisher {
	if d.publisher == nil {
		return &publisher{codecs: []codec.Codec{codec.JSON}}
	}
	return d.publisher
}

// HasEnvelope reports whether the message has its envelope. An event that travels by reference, and that nothing caused,
// has none until Message makes it; middleware that would only look for what a foreign publisher left out need not ask.
func (d *Delivery) HasEnvelope() bool { return d.message.Load() != nil }

// SetMessage gives the delivery another envelope for what is further inside of the chain: middleware hands it a changed
// copy.
func (d *Delivery) SetMessage(m *transport.Message) { d.message.Store(m) }

// schema returns the name and version of the event.
func (d *Delivery) schema() schema {
	m := d.message.Load()
	if m == nil && d.letter != nil {
		return schema{d.letter.route.name, d.letter.version}
	}
	return schema{m.Name, max(1, m.Version)}
}

// Handler handles one delivery. Its error is a verdict: nil acknowledges, Permanent goes to quarantine, RetryAfter comes
// again not before then, any other comes again by the retry policy. If ctx ended because the bus is stopping, the error
// is not counted as an attempt.
type Handler func(ctx context.Context, d *Delivery) error

// Middleware wraps a handler: at Start, once for each topic of each group. What it returns runs around every delivery of
// that topic to that group, concurrently.
type Middleware func(Handler) Handler

// Chain makes one middleware of several; the first is the outermost.
func Chain(middleware ...Middleware) Middleware {
	return func(h Handler) Handler {
		for i := len(middleware) - 1; i >= 0; i-- {
			h = middleware[i](h)
		}
		return h
	}
}

// originKey is the context key of what a publication descends from: a *Delivery, or an origin.
type originKey struct{}

// origin is a correlation id that was set by hand, and the delivery around it, if any.
type origin struct {
	delivery    *Delivery
	correlation string
}

// originOf returns the delivery that ctx handles, or nil, and the correlation id that a message published with ctx gets,
// or "" if it begins its own.
func originOf(ctx context.Context) (*Delivery, string) {
	switch from := ctx.Value(originKey{}).(type) {
	case *Delivery:
		if from == nil {
			return nil, ""
		}
		if m := from.Message(); m.CorrelationID != "" {
			return from, m.CorrelationID
		}
		return from, from.Message().ID
	case *origin:
		return from.delivery, from.correlation
	}
	return nil, ""
}

// DeliveryFrom returns the delivery that ctx handles, and whether there is one.
func DeliveryFrom(ctx context.Context) (*Delivery, bool) {
	d, _ := originOf(ctx)
	return d, d != nil
}

// WithDelivery returns a context in which d is being handled: what is published with it gets the correlation and
// causation of d, and is published within a handler; see transport.WithinHandler. The bus does this for its handlers; it
// is for code that handles deliveries without a bus. If d is nil, what is published with it descends from nothing.
func WithDelivery(ctx context.Context, d *Delivery) context.Context {
	return delivering{ctx, d}
}

// delivering is a context in which a delivery is handled.
type delivering struct {
	context.Context
	delivery *Delivery
}

// Value implements context.Context.
func (c delivering) Value(key any) any {
	switch key.(type) {
	case originKey:
		return c.delivery
	case transport.HandlerKey:
		if c.delivery != nil {
			return c.delivery
		}
	}
	return c.Context.Value(key)
}

// WithCorrelationID returns a context in which what is published gets the correlation id. An edge of the program sets
// it, such as an HTTP handler with the id of its request. An empty id changes nothing.
func WithCorrelationID(ctx context.Context, id string) context.Context {
	if id == "" {
		return ctx
	}
	d, _ := originOf(ctx)
	return context.WithValue(ctx, originKey{}, &origin{d, id})
}

// CorrelationID returns the correlation id that a message published with ctx would get, or "" if it would begin its own.
func CorrelationID(ctx context.Context) string {
	_, id := originOf(ctx)
	return id
}

type (
	stoppingKey struct{}
	busKey      struct{}
)

// handlingContext is what the contexts of all handlers of a consumer descend from.
type handlingContext struct {
	context.Context
	bus      *Bus
	stopping <-chan struct{}
}

// Value implements context.Context.
func (c handlingContext) Value(key any) any {
	switch key.(type) {
	case stoppingKey:
		return c.stopping
	case busKey:
		return c.bus
	}
	return c.Context.Value(key)
}

// Stopping returns a channel that is closed when the bus that handles the delivery of ctx begins to stop. Handlers are
// left to finish, but middleware that only waits (for a retry, for its turn) should give way: it returns an error that
// matches ErrStopped, and the delivery goes back without counting as an attempt. The channel is nil, and so never ready,
// outside of a bus, and at most once, where the message does not come again.
func Stopping(ctx context.Context) <-chan struct{} {
	stopping, _ := ctx.Value(stoppingKey{}).(<-chan struct{})
	return stopping
}

// task is a delivery in the hands of a consumer, and the context under which it is handled: one allocation for a whole
// batch of them.
type task struct {
	context.Context
	Delivery
	// delivered is the message as it came, or nil if it came as a letter: middleware may have set another.
	delivered *transport.Message

	tag    uint64
	number uint64 // in the order of arrival
	next   *task  // waits for the same key
	exited int    // 1 + Tries when the goroutine was ended last, 0 if it never was
}

// key returns the key that the message came with.
func (t *task) key() string {
	if t.delivered == nil {
		return t.letter.key
	}
	return t.delivered.Key
}

// Value implements context.Context.
func (t *task) Value(key any) any {
	switch key.(type) {
	case originKey, transport.HandlerKey:
		return &t.Delivery
	}
	return t.Context.Value(key)
}
