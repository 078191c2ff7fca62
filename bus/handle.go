package bus

import (
	"context"
	"errors"
	"fmt"
	"reflect"
)

type eventFunc func(ctx context.Context, event any) error

// Handle registers fn as the handler of group for events of type E. All handlers of one group on one topic share one
// subscription; an event that none of them takes is acknowledged and counted.
//
// E may be a struct or a pointer to one. fn runs on up to GroupConfig.Workers goroutines at once.
//
// Handle is called before Start, which reports what is wrong with it: an invalid name, or a second handler of the group
// for the same version of the event. After Start it has no effect but a line in the log and an error of Stop.
func Handle[E Event](b *Bus, group string, fn func(ctx context.Context, event E) error) {
	at := b.places.Now()
	s, err := schemaOf[E]()
	b.declare(at, func(w *wiring) {
		w.addGroup(at, group)
		if err == nil && fn == nil {
			err = errors.New("the function is nil")
		}
		if err != nil {
			w.mistake(at, "handler of group %q: %w", group, err)
			return
		}
		decode := decoder[E](b.publisher)
		w.addHandler(group, &handler{
			schema: s,
			place:  at,
			typ:    reflect.TypeFor[E](),
			decode: func(d *Delivery) (any, error) { return decode(d) },
			handle: func(ctx context.Context, event any) error { return fn(ctx, event.(E)) },
			direct: func(ctx context.Context, d *Delivery) error {
				e, err := decode(d)
				if err != nil {
					return err
				}
				return fn(ctx, e)
			},
		})
	})
}

// Upcast registers how an event of an older version becomes one of a newer. Both types have the same event name.
// Upcasts chain: a message of version 1 reaches a handler for version 3 by way of 2. A group that has a handler for
// just the version of the message gets it as it is. An error of fn is Permanent.
//
// Like Handle, it is called before Start, which reports mistakes.
func Upcast[Old, New Event](b *Bus, fn func(old Old) (New, error)) {
	at := b.places.Now()
	from, errOld := schemaOf[Old]()
	to, errNew := schemaOf[New]()
	b.declare(at, func(w *wiring) {
		err := errors.Join(errOld, errNew)
		if err == nil && fn == nil {
			err = errors.New("the function is nil")
		}
		if err != nil {
			w.mistake(at, "upcast: %w", err)
			return
		}
		decode := decoder[Old](b.publisher)
		w.addUpcast(from, upcast{
			to:     to,
			place:  at,
			typ:    reflect.TypeFor[Old](),
			decode: func(d *Delivery) (any, error) { return decode(d) },
			apply:  func(old any) (any, error) { return fn(old.(Old)) },
		})
	})
}

// schemaOf asks a zero value of E for its name and version. If E is a pointer the value is a pointer to a zero value,
// for methods with value receivers.
func schemaOf[E Event]() (s schema, err error) {
	var zero E
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the zero value of %T cannot tell its name: %v", ErrInvalid, zero, p)
		}
	}()
	typ := reflect.TypeFor[E]()
	if typ.Kind() == reflect.Interface {
		return schema{}, fmt.Errorf("%w: %v is an interface; a handler takes one concrete type", ErrInvalid, typ)
	}
	zero = newEvent[E]()()
	return schema{zero.EventName(), versionOf(zero)}, nil
}

// newEvent returns a function that makes an E to decode into.
func newEvent[E Event]() func() E {
	typ := reflect.TypeFor[E]()
	if typ.Kind() != reflect.Pointer {
		return func() E { var e E; return e }
	}
	return func() E { return reflect.New(typ.Elem()).Interface().(E) }
}

func versionOf(e Event) int {
	if v, ok := e.(Versioned); ok {
		return v.EventVersion()
	}
	return 1
}

// Decode makes an E of the message of d, for middleware that needs the event: one that a handler of E would get without an
// Upcast. Any other event or version, and what cannot be decoded, is an error that matches ErrDecode.
func Decode[E Event](d *Delivery) (E, error) {
	s, err := schemaOf[E]()
	if got := d.schema(); err == nil && got != s {
		err = fmt.Errorf("the message is %s, and %s is asked for", got, s)
	}
	if err != nil {
		var zero E
		return zero, Permanent(fmt.Errorf("%w: %w", ErrDecode, err))
	}
	return decoder[E](d.codecs())(d)
}

// decoder returns the function that makes an E out of a delivery. Its errors are Permanent and match ErrDecode.
func decoder[E Event](p *publisher) func(*Delivery) (E, error) {
	make, pointer := newEvent[E](), reflect.TypeFor[E]().Kind() == reflect.Pointer
	return func(d *Delivery) (E, error) {
		if d.letter != nil && !d.HasEnvelope() {
			if e, ok := d.letter.event.(E); ok {
				return e, nil
			}
		}
		m := d.Message()
		payload, contentType := m.Payload, m.ContentType
		if m.Value != nil {
			if e, ok := m.Value.(E); ok {
				return e, nil
			}
			if payload == nil { // handed over by reference, as a type of another module
				var err error
				if payload, contentType, err = p.encode(m.Value); err != nil {
					return make(), Permanent(fmt.Errorf("%w: %q: %w", ErrDecode, m.Name, err))
				}
			}
		}
		e := make()
		c, err := p.codecFor(contentType, e)
		switch {
		case err != nil:
		case pointer:
			err = c.Unmarshal(payload, e)
		default:
			err = c.Unmarshal(payload, &e)
		}
		if err != nil {
			return e, Permanent(fmt.Errorf("%w: %q version %d into %T: %w", ErrDecode, m.Name, max(1, m.Version), e, err))
		}
		return e, nil
	}
}
