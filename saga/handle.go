package saga

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
)

// errNoInstance: a reply has no instance.
var errNoInstance = errors.New("saga: a reply without an instance")

const (
	// patience is how often a reply comes again that has no instance; the pause doubles from one second.
	patience = 5
	// versionPause is the pause before a message comes again for whose instance this program has no definition.
	versionPause = 10 * time.Second
)

// wire declares the handlers: one group for each saga, which takes the events of all its versions.
func (o *Orchestrator) wire(b *bus.Bus) {
	for saga, versions := range o.defs {
		events := map[schema]event{}
		for _, d := range versions {
			for _, s := range d.starts {
				events[s.schema] = s.event
			}
			for _, l := range d.leaves {
				for _, r := range l.replies {
					events[r.schema] = r.event
				}
			}
		}
		for _, ev := range events {
			ev.handle(b, groupPrefix+saga, func(ctx context.Context, e bus.Event) error {
				o.remind()
				return o.handle(ctx, saga, ev.schema, e)
			})
		}
	}
}

// remind warns once if events come and nobody has called Start.
func (o *Orchestrator) remind() {
	if !o.started.Load() && !o.reminded.Swap(true) {
		o.cfg.Logger.Warn("saga: events come to an Orchestrator that was not started: it neither retries nor times out; " +
			"call Start before the Start of the bus")
	}
}

// handle is told of an event.
func (o *Orchestrator) handle(ctx context.Context, saga string, ev schema, e bus.Event) error {
	d, ok := bus.DeliveryFrom(ctx)
	if !ok {
		return fmt.Errorf("saga: %w: a middleware took the delivery out of the context", bus.ErrInvalid)
	}
	keys, err := o.keys(saga, ev, e)
	if err != nil {
		return err
	}
	list, err := o.transact(ctx, o.once, func(ctx context.Context, w *work) error {
		begun, err := w.begin(ctx, saga, ev, e)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if key == begun {
				continue
			}
			if err := w.reply(ctx, saga, key, ev, e); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errNoInstance) && d.Attempt <= patience:
		return bus.RetryAfter(time.Second<<(d.Attempt-1), err)
	case errors.Is(err, errNoInstance):
		o.cfg.Logger.Warn("saga: a reply is ignored", "saga", saga, "event", ev.name, "message", d.Message().ID, "error", err)
		return nil
	case errors.Is(err, ErrVersion):
		return bus.RetryAfter(versionPause, err)
	case errors.Is(err, ErrState) || errors.Is(err, ErrStep):
		return errors.Join(err, o.unreadable(ctx, saga, keys))
	case err != nil:
		return err
	}
	if err := o.goOn(ctx, list); err != nil && ctx.Err() == nil {
		o.cfg.Logger.Warn("saga: what follows a message is left to the poller", "saga", saga, "error", err)
	}
	return nil
}

// once is outbox.Box.Once.
func (o *Orchestrator) once(ctx context.Context, f func(*outbox.Tx) error) error {
	return o.box.Once(ctx, f)
}

// keys returns the keys of the instances that the event is a reply to.
func (o *Orchestrator) keys(saga string, ev schema, e bus.Event) (keys []string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = bus.Permanent(fmt.Errorf("saga %q: the key of %q: %w: %v", saga, ev.name, ErrPanic, p))
		}
	}()
	for _, d := range o.defs[saga] {
		for _, l := range d.leaves {
			if r := l.reply(ev); r != nil {
				key := r.key(e)
				if err := checkKey(saga, key); err != nil {
					return nil, bus.Permanent(err)
				}
				keys = append(keys, key)
			}
		}
	}
	slices.Sort(keys) // so that all lock in one order
	return slices.Compact(keys), nil
}

// begin starts an instance, if the event does, and returns its key.
func (w *work) begin(ctx context.Context, saga string, ev schema, e bus.Event) (string, error) {
	def := w.o.newest[saga]
	i := slices.IndexFunc(def.starts, func(s starter) bool { return s.schema == ev })
	if i < 0 {
		return "", nil
	}
	in := &instance{saga: saga, def: def, version: def.version, correlation: bus.CorrelationID(ctx), trace: traceOf(ctx)}
	err := (&transition{machine: machine{in: in}}).safely(func() error {
		in.key, in.state = def.starts[i].start(e)
		return nil
	})
	if err != nil || w.exists[instanceOf{saga, in.key}] {
		return "", err
	}
	data, err := eventCodec.Marshal(e)
	if err != nil {
		return "", bus.Permanent(err)
	}
	d, _ := bus.DeliveryFrom(ctx)
	_, err = w.start(ctx, in, func(entry *Entry) {
		entry.Event, entry.EventVersion, entry.Data, entry.Message = ev.name, ev.version, data, d.Message().ID
	})
	return in.key, err
}

// reply brings an event to an instance.
func (w *work) reply(ctx context.Context, saga, key string, ev schema, e bus.Event) error {
	t, err := w.lock(ctx, saga, key)
	if t != nil && t.in.status.Ended() {
		return nil
	}
	if err != nil {
		return err
	}
	if t == nil {
		if _, starts := w.exists[instanceOf{saga, key}]; starts || w.o.startsOn(saga, ev) {
			return nil
		}
		return fmt.Errorf("%w: saga %q: key %q: event %q", errNoInstance, saga, key, ev.name)
	}
	t.tick()
	d, _ := bus.DeliveryFrom(ctx)
	if err := t.safely(func() error { return t.take(ev, e, d.Message().ID) }); err != nil {
		return err
	}
	return t.drive(ctx)
}

func (o *Orchestrator) startsOn(saga string, ev schema) bool {
	return slices.ContainsFunc(o.newest[saga].starts, func(s starter) bool { return s.schema == ev })
}

// take gives an event to the step that waits for it, keeps it for one that is to come, or ignores it.
func (m *machine) take(ev schema, e any, message string) error {
	p := &m.in.progress
	for _, l := range p.Leaves {
		if r := m.step(l).reply(ev); r != nil && l.Phase == waiting {
			return m.reply(l, r, e, message)
		}
	}
	if !p.Back {
		for _, s := range m.in.def.steps {
			for _, s := range s.leaves {
				if s.reply(ev) == nil || !m.ahead(s) || slices.ContainsFunc(p.Early, func(k early) bool { return k.schema() == ev }) {
					continue
				}
				data, err := eventCodec.Marshal(e)
				if err != nil {
					return err
				}
				p.Early = append(p.Early, early{ev.name, ev.version, data, message})
				m.note(Kept, s.name, func(k *Entry) { k.Event, k.EventVersion, k.Message, k.Data = ev.name, ev.version, message, data })
				return nil
			}
		}
	}
	m.note(Ignored, "", func(k *Entry) { k.Event, k.EventVersion, k.Message = ev.name, ev.version, message })
	return nil
}

// ahead reports whether the instance has yet to wait in a step.
func (m *machine) ahead(s *step) bool {
	if l := m.in.progress.find(s.name); l != nil {
		return l.Phase == doing
	}
	for _, top := range m.in.def.steps {
		if top.name == m.in.progress.At {
			return s.index > top.index
		}
	}
	return false
}

func (e early) schema() schema { return schema{e.Name, e.Version} }
