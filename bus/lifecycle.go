package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postbus/postbus/transport"
)

// cancelGrace is how long Stop waits, after its context has ended, for handlers to notice that theirs has. To bring the last
// settlements home it takes the time until that end: settleGrace at least, and settleMost at most.
const (
	cancelGrace = time.Second
	settleGrace = 5 * time.Second
	settleMost  = 20 * time.Second
)

// Start checks the wiring, subscribes all groups and begins to handle. Its context bounds starting only. The error
// names every wiring mistake, each with the place in the code where it was made; a failed Start leaves nothing running
// and can be tried again, unless the wiring was wrong. A Stop meanwhile ends it with ErrStopped.
func (b *Bus) Start(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b.mu.Lock()
	if s := b.state.Load(); s != declaring {
		b.mu.Unlock()
		if s >= stopping {
			return ErrStopped
		}
		return fmt.Errorf("%w: Start called twice", ErrInvalid)
	}
	b.state.Store(starting)
	b.started, b.cancelStart = make(chan struct{}), cancel
	b.mu.Unlock()

	var consumers []*consumer
	next := declaring // also if it panics
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		defer close(b.started)
		if context.Cause(ctx) == ErrStopped {
			next, err = stopped, errors.Join(ErrStopped, closeAll(consumers))
			close(b.stopped)
		}
		b.state.Store(next) // handlers may publish from the first delivery on
		if next == running {
			b.consumers = consumers
			for _, c := range consumers {
				c.start()
			}
		}
	}()
	if consumers, err = b.subscribe(ctx); err == nil {
		next = running
	}
	return err
}

func (b *Bus) subscribe(ctx context.Context) ([]*consumer, error) {
	if err := b.verify(); err != nil {
		return nil, err
	}
	consumers, err := b.makeConsumers()
	if err != nil {
		return nil, err
	}
	for i, c := range consumers {
		c.sub, err = b.cfg.Transport.Subscribe(ctx, transport.SubscribeConfig{
			Topic: c.topic, Group: c.group, Start: c.cfg.Start, Prefetch: c.cfg.Prefetch, Lazy: true,
		})
		if err != nil {
			err = errors.Join(err, closeAll(consumers[:i]))
			return nil, fmt.Errorf("bus: subscribe group %q to topic %q: %w", c.group, c.topic, err)
		}
	}
	return consumers, nil
}

// makeConsumers makes the consumer of each topic of each group, before any I/O.
func (b *Bus) makeConsumers() ([]*consumer, error) {
	var consumers []*consumer
	var errs []error
	for _, group := range b.wiring.sortedGroups() {
		cfg := b.cfg.Groups[group].withDefaults()
		topics := b.byTopic(b.wiring.routes(b.wiring.groups[group]))
		var slots chan struct{}
		if len(topics) > 1 { // the topics of a group share its workers
			slots = make(chan struct{}, cfg.Workers)
		}
		for _, topic := range slices.Sorted(maps.Keys(topics)) {
			c, err := newConsumer(b, group, topic, cfg, topics[topic], slots)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: group %q on topic %q: %w", b.place, group, topic, err))
				continue
			}
			consumers = append(consumers, c)
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("bus %q is wired wrongly:\n%w", b.cfg.Name, errors.Join(errs...))
	}
	return consumers, nil
}

// closeAll closes the subscriptions of consumers that have not started.
func closeAll(consumers []*consumer) error {
	var errs []error
	for _, c := range consumers {
		errs = append(errs, c.sub.Close())
	}
	return errors.Join(errs...)
}

// byTopic sorts the routes of a group by the topics that they need.
func (b *Bus) byTopic(routes map[string]versions) map[string]map[string]versions {
	topics := map[string]map[string]versions{}
	for name, v := range routes {
		topic := b.publisher.topic(name)
		if topics[topic] == nil {
			topics[topic] = map[string]versions{}
		}
		topics[topic][name] = v
	}
	return topics
}

// Run starts the bus, handles until ctx ends, somebody calls Stop or the bus has failed (see Failed), and drains for up
// to Config.StopTimeout. A clean run returns nil.
func (b *Bus) Run(ctx context.Context) error {
	if err := b.Start(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-b.stopped:
	case <-b.failed:
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.StopTimeout)
	defer cancel()
	if err := b.Stop(stop); err != nil || b.Err() != nil {
		return errors.Join(b.Err(), err)
	}
	return nil
}

// Stop stops fetching, lets running handlers finish, and settles what they have done; deliveries that no handler has
// begun go back. When ctx ends first, the contexts of the handlers are cancelled, and Stop waits one second more. The last
// settlements and the end of the subscriptions have what is left of ctx, between five and twenty seconds. Stop
// returns nil if all handlers have ended and all their work is settled, else an error that names those that have not;
// their messages come again. The error also names what was declared after Start, and so had no effect.
//
// Handlers may publish until Stop returns. Stop may be called at any time, also before Start and more than once: later
// calls wait for the first and return its error.
func (b *Bus) Stop(ctx context.Context) error {
	b.mu.Lock()
	for b.state.Load() == starting {
		b.cancelStart(ErrStopped)
		started := b.started
		b.mu.Unlock()
		select {
		case <-started:
		case <-ctx.Done():
			return ctx.Err()
		}
		b.mu.Lock()
	}
	switch b.state.Load() {
	case declaring:
		b.state.Store(stopped)
		close(b.stopped)
		b.mu.Unlock()
		return nil
	case stopping, stopped:
		b.mu.Unlock()
		select {
		case <-b.stopped:
			return b.stopErr
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.state.Store(stopping)
	consumers := b.consumers
	b.mu.Unlock()

	errs := drain(ctx, consumers)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopErr = errors.Join(slices.Concat(b.late, errs)...)
	b.state.Store(stopped)
	close(b.stopped)
	return b.stopErr
}

// drain ends consumers, all at once.
func drain(ctx context.Context, consumers []*consumer) []error {
	for _, c := range consumers {
		c.stopFetching()
	}
	var hard context.Context
	for _, c := range consumers {
		select {
		case <-c.idle:
			continue
		case <-ctx.Done():
		}
		if hard == nil {
			for _, c := range consumers {
				c.cancel(ErrStopped)
			}
			var cancel context.CancelFunc
			hard, cancel = context.WithTimeout(context.WithoutCancel(ctx), cancelGrace)
			defer cancel()
		}
		select {
		case <-c.idle:
		case <-hard.Done():
		}
	}
	began := time.Now()
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleMost)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(settleGrace-time.Since(began), cancel) })()
	finished := make(chan error, len(consumers))
	for _, c := range consumers {
		go func() { finished <- c.finish(settle) }()
	}
	over := settle.Done()
	var deaf <-chan time.Time
	var errs []error
	for len(errs) < len(consumers) {
		select {
		case err := <-finished:
			errs = append(errs, err)
		case <-over:
			over, deaf = nil, time.After(cancelGrace)
		case <-deaf:
			return append(errs, fmt.Errorf("bus: stop: the transport hangs: %d of %d subscriptions are not closed, and "+
				"handled messages may come again", len(consumers)-len(errs), len(consumers)))
		}
	}
	return errs
}

// finish settles what is left and closes the subscription, after all workers have ended or were given up.
func (c *consumer) finish(ctx context.Context) error {
	c.mu.Lock()
	for _, h := range c.held {
		h.timer.Stop()
		c.settle(h.task.tag, transport.Requeue)
	}
	c.held = nil
	c.closed = true
	defer context.AfterFunc(ctx, func() { c.cancel(ErrStopped) })()
	for c.flushing {
		c.rest.Wait()
	}
	c.cancel(ErrStopped)
	err := c.flushLocked(ctx)
	for err != nil && !errors.Is(err, transport.ErrClosed) && ctx.Err() == nil {
		c.mu.Unlock()
		select {
		case <-time.After(c.backoff(c.flushErrs)):
		case <-ctx.Done():
		}
		c.mu.Lock()
		err = c.flushLocked(ctx)
	}
	if c.flushTimer != nil {
		c.flushTimer.Stop()
	}
	stuck, lost := c.stuck(), 0
	if c.cfg.Delivery == AtMostOnce {
		lost = c.unsettled - len(stuck)
	}
	c.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("bus: stop group %q on topic %q: handled messages may come again: %w", c.group, c.topic, err)
	}
	if len(stuck) > 0 {
		err = errors.Join(err, fmt.Errorf("bus: stop group %q on topic %q: handlers still running, their messages come again: %s",
			c.group, c.topic, strings.Join(stuck, ", ")))
	}
	if lost > 0 {
		err = errors.Join(err, fmt.Errorf("bus: stop group %q on topic %q: %d messages are lost, as at most once allows: "+
			"acknowledged, but not handled in time", c.group, c.topic, lost))
	}
	if closeErr := c.sub.Close(); closeErr != nil && !errors.Is(closeErr, transport.ErrClosed) {
		err = errors.Join(err, fmt.Errorf("bus: close group %q on topic %q: %w", c.group, c.topic, closeErr))
	}
	return err
}
