package transporttest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/postbus/postbus/transport"
)

func (r *reference) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	failed := r.check(topic, msgs)
	partial, some := errors.AsType[*transport.PublishError](failed)
	if failed != nil && (!some || r.has("partial publishes none")) {
		return failed
	}
	if len(msgs) > 0 {
		if err := r.spoilFull(ctx, r.derive(topic)); err != nil && !r.has("publishes and fails when full") {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed && !r.has("open after close"):
		return transport.ErrClosed
	case r.has("empty batch fails") && len(msgs) == 0, r.has("no group fails") && r.noGroup(topic):
		return errors.New("broken")
	case ctx.Err() != nil && !r.has("publishes and fails") && !r.has("publishes and fails when full"):
		return ctx.Err()
	}
	for i := range msgs {
		if !some || partial.Errs[i] == nil {
			r.store(r.derive(topic), &msgs[i], i)
		}
	}
	if !r.has("does not wake") {
		r.wake()
	}
	if some && r.has("partial is whole") {
		return partial.Errs[1]
	}
	return errors.Join(failed, ctx.Err())
}

// PublishLazy implements transport.LazyPublisher.
func (r *reference) PublishLazy(_ context.Context, topic string, m transport.Lazy) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed && !r.has("open after close") {
		return transport.ErrClosed
	}
	r.topics[r.derive(topic)] = append(r.topics[r.derive(topic)], &record{*m.Message(), m, time.Now()})
	r.wake()
	return nil
}

func (r *reference) check(topic string, msgs []transport.Message) error {
	caps := r.caps
	switch {
	case r.has("takes invalid messages") && transport.CheckName("topic", topic) == nil,
		r.has("takes invalid topics") && transport.CheckName("topic", topic) != nil:
		return nil
	case r.has("takes too large"):
		caps.MaxPayload = 0
	case r.has("takes one byte less"):
		caps.MaxPayload--
	case r.has("takes unsupported"):
		caps.Delay, caps.Target = true, true
	}
	return transport.CheckBatch(caps, topic, msgs)
}

func (r *reference) noGroup(topic string) bool {
	for _, g := range r.groups {
		if g.topic == topic {
			return false
		}
	}
	return true
}

func (r *reference) store(topic string, m *transport.Message, i int) {
	rec := &record{*m, nil, time.Now()}
	c := &rec.msg
	c.Metadata, c.Payload = maps.Clone(m.Metadata), slices.Clone(m.Payload)
	if len(m.Metadata) == 0 {
		c.Metadata = nil
	}
	if !r.caps.Values {
		c.Value = nil
	}
	r.spoilMessage(m, c)
	log := r.topics[topic]
	switch {
	case r.has("loses") && len(log) == 2, r.has("loses of a large batch") && i == 2500:
	case r.has("duplicates") && len(log) == 2:
		double := *rec
		r.topics[topic] = append(log, rec, &double)
	case r.has("reverses batches"):
		r.topics[topic] = slices.Insert(log, len(log)-i, rec)
	case r.has("swaps") && len(log)%5 == 4:
		r.topics[topic] = slices.Insert(log, len(log)-1, rec)
	default:
		r.topics[topic] = append(log, rec)
	}
}
