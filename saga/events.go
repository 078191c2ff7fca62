package saga

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/codec"
)

// Start is what begins an instance; see StartOn.
type Start[S any] []starter

// StartOn begins an instance with an event. f returns the key of the instance, which must be 1 to 255 bytes of UTF-8, and
// its first state. It depends on nothing but the event.
func StartOn[E bus.Event, S any](f func(event E) (key string, state S)) Start[S] {
	s := starter{event: eventOf[E]()}
	if f != nil {
		s.start = func(e any) (string, any) {
			key, state := f(e.(E))
			return key, &state
		}
	}
	return Start[S]{s}
}

// Or begins an instance with other events, too.
func (s Start[S]) Or(other Start[S]) Start[S] { return append(s[:len(s):len(s)], other...) }

// Await is what a step waits for; see Replies.
type Await[S any] struct {
	replies []reply
	all     bool
}

// Replies has a step wait for any of several events: the first that comes decides.
func Replies[S any](replies ...Reply[S]) Await[S] { return awaiting(false, replies) }

// AllReplies has a step wait until each event of Continue has come once; the first of Abort decides before that.
func AllReplies[S any](replies ...Reply[S]) Await[S] { return awaiting(true, replies) }

func awaiting[S any](all bool, replies []Reply[S]) Await[S] {
	a := Await[S]{all: all}
	for _, r := range replies {
		a.replies = append(a.replies, r.reply)
	}
	return a
}

// Reply is an event that a step waits for, and what it means.
type Reply[S any] struct{ reply }

// Continue has the event end the step well, after f has put into the state what it says. f does nothing else. Its error
// sends the message the way of one that a handler failed on, and leaves the instance as it was. key tells the instance by
// the event; by default it is the event's key (bus.Keyed).
func Continue[S any, E bus.Event](f func(state *S, event E) error, key ...func(event E) string) Reply[S] {
	return Reply[S]{replyOf(f, false, key)}
}

// Abort has the event abort the saga, after f has put into the state what it says; see Continue.
func Abort[S any, E bus.Event](f func(state *S, event E) error, key ...func(event E) string) Reply[S] {
	return Reply[S]{replyOf(f, true, key)}
}

func replyOf[S any, E bus.Event](f func(*S, E) error, abort bool, key []func(E) string) reply {
	r := reply{event: eventOf[E](), abort: abort}
	if f != nil {
		r.apply = func(state, e any) error { return f(state.(*S), e.(E)) }
	}
	switch {
	case len(key) > 0 && key[0] != nil:
		r.key = func(e any) string { return key[0](e.(E)) }
	case reflect.TypeFor[E]().Implements(reflect.TypeFor[bus.Keyed]()):
		r.key = func(e any) string { return e.(bus.Keyed).EventKey() }
	}
	return r
}

// schema is one version of one event.
type schema struct {
	name    string
	version int
}

// event is an event type without its type.
type event struct {
	schema
	err error // it cannot tell its name
	// handle registers f as a handler of the event.
	handle func(b *bus.Bus, group string, f func(ctx context.Context, e bus.Event) error)
	// decode makes the event of what encode made.
	decode func(c codec.Codec, data []byte) (bus.Event, error)
}

type starter struct {
	event
	start func(e any) (key string, state any)
}

type reply struct {
	event
	abort bool
	apply func(state, e any) error
	key   func(e any) string
}

func eventOf[E bus.Event]() (ev event) {
	typ := reflect.TypeFor[E]()
	make := func() E { var e E; return e }
	if typ.Kind() == reflect.Pointer {
		make = func() E { return reflect.New(typ.Elem()).Interface().(E) }
	}
	ev.handle = func(b *bus.Bus, group string, f func(context.Context, bus.Event) error) {
		bus.Handle(b, group, func(ctx context.Context, e E) error { return f(ctx, e) })
	}
	ev.decode = func(c codec.Codec, data []byte) (bus.Event, error) {
		e := make()
		if typ.Kind() == reflect.Pointer {
			return e, c.Unmarshal(data, e)
		}
		err := c.Unmarshal(data, &e)
		return e, err
	}
	defer func() {
		if p := recover(); p != nil {
			ev.err = fmt.Errorf("%w: the zero value of %v cannot tell its name: %v", bus.ErrInvalid, typ, p)
		}
	}()
	zero := make()
	ev.name, ev.version = zero.EventName(), 1
	if v, ok := any(zero).(bus.Versioned); ok {
		ev.version = v.EventVersion()
	}
	return ev
}

// stateCodec keeps states.
type stateCodec interface {
	decode(text string) (any, error)
	encode(state any) (string, error)
}

type jsonOf[S any] struct{}

func (jsonOf[S]) decode(text string) (any, error) {
	var s S
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	return &s, nil
}

func (jsonOf[S]) encode(state any) (string, error) {
	text, err := json.Marshal(state)
	return string(text), err
}
