package saga

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

// longestWait is how long an attempt may go on after its context has ended, at most, before it is left behind.
const longestWait = 5 * time.Second

// attempt runs a function of a step on a goroutine of its own, so that one that never returns can be left behind.
func (o *Orchestrator) attempt(ctx context.Context, r *run, s *step) (time.Duration, error) {
	f := s.do
	if r.undo {
		f = s.undo
	}
	do := o.around(r, f)
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, o.cfg.AttemptTimeout)
	defer cancel()
	result := make(chan error, 1)
	var crash any
	go func() {
		err := errors.New("saga: the function ended its goroutine")
		defer func() {
			if p := recover(); p != nil {
				if isCrash(p) {
					crash = p
				}
				err = fmt.Errorf("%w: %v\n%s", ErrPanic, p, debug.Stack())
			}
			result <- err
		}()
		err = do(ctx)
	}()
	var err error
	select {
	case err = <-result:
	case <-ctx.Done():
		patience := time.NewTimer(min(longestWait, o.cfg.AttemptTimeout))
		defer patience.Stop()
		select {
		case err = <-result:
		case <-patience.C:
			o.cfg.Logger.Error("saga: a function does not return; it is left behind without its transaction",
				"saga", r.in.saga, "instance", r.in.key, "step", r.leaf.Name)
			err = ErrAttemptTimeout
		}
	}
	if crash != nil {
		panic(crash)
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && !errors.Is(err, ErrAttemptTimeout) {
		err = fmt.Errorf("%w: %w", ErrAttemptTimeout, err)
	}
	return time.Since(begun), err
}

// causal returns a context in which what is published descends from the start of the instance, unless a message is being
// handled that it descends from.
func (o *Orchestrator) causal(ctx context.Context, in *instance) context.Context {
	if _, ok := bus.DeliveryFrom(ctx); ok {
		return ctx
	}
	m := &transport.Message{ID: in.id, CorrelationID: in.correlation, Metadata: in.trace, Key: in.key}
	return bus.WithDelivery(ctx, bus.NewDelivery(m, "", groupPrefix+in.saga, 1))
}

// traceOf returns the W3C trace context of the message that ctx handles.
func traceOf(ctx context.Context) map[string]string {
	d, ok := bus.DeliveryFrom(ctx)
	if !ok {
		return nil
	}
	var trace map[string]string
	for _, key := range [...]string{"traceparent", "tracestate", "baggage"} {
		if v := d.Message().Metadata[key]; v != "" {
			if trace == nil {
				trace = map[string]string{}
			}
			trace[key] = v
		}
	}
	return trace
}
