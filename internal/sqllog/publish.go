package sqllog

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/postbus/postbus/transport"
)

// Publish appends msgs. Concurrent calls share a commit: those that come while one is under way go together in the next.
// A message that is bad fails alone, also if only the database knows that it is.
func (l *Log) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(msgs) == 0 {
		if l.isClosed() {
			return transport.ErrClosed
		}
		return transport.CheckName("topic", topic)
	}
	if err := l.publish(ctx, topic, msgs); err != nil {
		return l.publishError(topic, err)
	}
	return nil
}

func (l *Log) publish(ctx context.Context, topic string, msgs []transport.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	req, failed, err := l.prepare(ctx, topic, msgs, l.topic)
	if err != nil {
		return err
	}
	if req.size > 0 {
		err := l.submit(ctx, req)
		if len(msgs) > 1 && errors.Is(err, transport.ErrInvalid) {
			return l.publishHalves(ctx, topic, msgs)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case failed == nil:
		return nil
	case len(msgs) == 1:
		return failed[0]
	}
	return &transport.PublishError{Errs: failed}
}

// publishHalves publishes messages that the database refused together, for at least one of them: what is good of them
// goes on, in its order.
func (l *Log) publishHalves(ctx context.Context, topic string, msgs []transport.Message) error {
	var errs []error
	half := len(msgs) / 2
	for _, part := range [][]transport.Message{msgs[:half], msgs[half:]} {
		err := l.publish(ctx, topic, part)
		if partial, some := errors.AsType[*transport.PublishError](err); some {
			errs = append(errs, partial.Errs...)
		} else {
			errs = append(errs, slices.Repeat([]error{err}, len(part))...)
		}
	}
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	return &transport.PublishError{Errs: errs}
}

func (l *Log) publishError(topic string, err error) error {
	if errors.Is(err, transport.ErrClosed) {
		return err
	}
	return l.errorf("publish %q: %w", topic, err)
}

// request is one call of Publish: rows of one topic.
type request struct {
	topic *Topic
	steps []*Step
	size  int // messages
	bytes int // of their payloads
	done  chan error
}

// step returns the step that the next message goes to: order within a request is kept. A new one has room for so many.
func (r *request) step(later, placed bool, room int) *Step {
	if n := len(r.steps); n > 0 {
		if s := r.steps[n-1]; (len(s.Later) > 0) == later && s.Placed == placed {
			return s
		}
	}
	s := &Step{Rows: Rows{Topic: r.topic}, Placed: placed}
	if !later {
		s.UUID, s.Metadata, s.Payload = make([]string, 0, room), make([]string, 0, room), make([][]byte, 0, room)
	}
	r.steps = append(r.steps, s)
	return s
}

// prepare makes rows of the good messages, and errors of the others, nil if there are none.
func (l *Log) prepare(ctx context.Context, topic string, msgs []transport.Message, find func(context.Context, string) (*Topic, error)) (*request, []error, error) {
	var failed []error
	if err := transport.CheckBatch(l.caps, topic, msgs); err != nil {
		var partial *transport.PublishError
		if !errors.As(err, &partial) {
			return nil, nil, err
		}
		failed = partial.Errs
	}
	t, err := find(ctx, topic)
	if err != nil {
		return nil, nil, err
	}
	req := &request{topic: t, done: make(chan error, 1)}
	now := time.Now().UnixMilli() + l.skew.Load()
	for i := range msgs {
		if failed != nil && failed[i] != nil {
			continue
		}
		m := &msgs[i]
		e, err := encode(m, t.JSON)
		if err != nil {
			if failed == nil {
				failed = make([]error, len(msgs))
			}
			failed[i] = err
			continue
		}
		req.size++
		req.bytes += len(e.payload)
		due := dueAt(m.NotBefore)
		if m.TargetGroup == "" && due <= now {
			req.step(false, false, len(msgs)-i).add(e)
			continue
		}
		s := req.step(true, due <= now, 0)
		s.Later = append(s.Later, Later{Topic: topic, Group: m.TargetGroup, Due: due, Hash: keyHash(m),
			UUID: e.uuid, Metadata: e.metadata, Payload: e.payload})
	}
	return req, failed, nil
}

// dueAt rounds up: a message must not come early.
func dueAt(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Add(time.Millisecond - 1).UnixMilli()
}
