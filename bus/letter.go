package bus

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/transport"
)

// letter is an event on its way through the process, as transport.Lazy: its envelope is made when somebody asks. It is
// kept as small as a cache line, for it goes from one processor to another.
type letter struct {
	event   Event
	route   *route
	version int
	key     string
	nanos   int64 // since 1970, when it was published
	made    atomic.Pointer[transport.Message]
}

// Message implements transport.Lazy.
func (l *letter) Message() *transport.Message {
	if m := l.made.Load(); m != nil {
		return m
	}
	t := time.Unix(0, l.nanos)
	id := randomID(t)
	m := &transport.Message{
		ID: id, Name: l.route.name, Version: l.version, Key: l.key, Time: t, CorrelationID: id, Value: l.event,
	}
	if !l.made.CompareAndSwap(nil, m) {
		return l.made.Load()
	}
	return m
}

// publishLetter publishes e as a letter if it can be one: a single event without instructions that descends from nothing,
// on a transport that takes letters. It reports whether it was.
func (p *publisher) publishLetter(ctx context.Context, e Event) (done bool, err error) {
	if _, special := e.(*wrapped); special || ctx.Value(originKey{}) != nil {
		return false, nil
	}
	o := outgoings.Get().(*outgoing)
	if len(o.letters) == 0 {
		o.letters = make([]letter, slabSize)
	}
	l := &o.letters[0]
	o.letters = o.letters[1:]
	err = p.write(o, l, e)
	outgoings.Put(o)
	if err != nil {
		return true, err
	}
	if err := p.lazy.PublishLazy(ctx, l.route.topic, l); err != nil {
		return true, fmt.Errorf("bus: publish %q: %w", l.route.name, err)
	}
	return true, nil
}

// write fills in a letter.
func (p *publisher) write(o *outgoing, l *letter, e Event) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicked(e, r)
		}
	}()
	if l.route, l.key, l.version, err = p.describe(o, 0, e); err != nil {
		return err
	}
	if l.key != "" {
		if err := (&transport.Message{ID: "-", Key: l.key}).Check(); err != nil {
			return fmt.Errorf("bus: publish %q: %w", l.route.name, asInvalid(err))
		}
	}
	l.event, l.nanos = e, p.clock.read().UnixNano()
	return nil
}
