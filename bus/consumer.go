package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/transport"
)

// consumer runs the handlers of one group on one topic. Its workers are equals: one that finds nothing to do becomes
// the receiver, shares out what it fetched, and goes on working; so that with one worker a message changes no goroutine.
type consumer struct {
	group, topic string
	cfg          GroupConfig
	sub          transport.Subscription
	routes       map[string]versions
	chain        Handler
	slots        chan struct{} // limits all consumers of the group together; nil if there is one only
	log          *slog.Logger

	ctx      context.Context // of the handlers
	cancel   context.CancelCauseFunc
	fetching context.Context // ends at Stop
	stop     context.CancelFunc

	// receiveCtx is the one of Receive, which interrupt ends for a while.
	receiveCtx context.Context
	interrupt  context.CancelFunc

	mu          sync.Mutex
	work        *sync.Cond // workers wait for something to do
	rest        *sync.Cond // others wait for a Receive or a flush to end
	workers     int
	idle        chan struct{} // closed when the last worker has ended
	ready       []*task       // from next on
	next        int
	keys        map[string]*keyQueue
	current     []*task         // of each worker
	held        map[*task]*hold // failed, waiting for their time to come again
	unsettled   int             // deliveries in hand whose settlement has not arrived
	receiving   bool            // a worker is the receiver
	inReceive   bool            // and has called Receive
	halted      bool            // no Receive may begin
	receiveErrs int             // in a row
	stopping    bool
	closed      bool
	handled     uint64
	failed      uint64
	ignored     atomic.Uint64 // the only one that is counted without the lock

	settlements []transport.Settlement
	returning   []string // keys whose tasks are among them because one of them is requeued
	spare       []transport.Settlement
	flushing    bool
	flushTimer  *time.Timer
	flushArmed  bool
	flushErrs   int
}

const (
	// flushSize and flushDelay say when settlements go to the transport while there is more to handle.
	flushSize  = 64
	flushDelay = 5 * time.Millisecond
	// receiveMax is the largest batch that is asked for.
	receiveMax = 256
	// tasksPerAlloc is how many tasks share one allocation: few enough that one which is kept does not keep much.
	tasksPerAlloc = 32
)

func newConsumer(b *Bus, group, topic string, cfg GroupConfig, sub transport.Subscription, routes map[string]versions,
	slots chan struct{},
) *consumer {
	c := &consumer{
		group: group, topic: topic, cfg: cfg, sub: sub, routes: routes, slots: slots,
		log:  b.cfg.Logger.With("bus", b.cfg.Name, "group", group, "topic", topic),
		idle: make(chan struct{}), keys: map[string]*keyQueue{}, held: map[*task]*hold{},
		current: make([]*task, cfg.Workers),
	}
	c.work, c.rest = sync.NewCond(&c.mu), sync.NewCond(&c.mu)
	c.fetching, c.stop = context.WithCancel(context.Background())
	c.receiveCtx, c.interrupt = context.WithCancel(c.fetching)
	handling := context.Background()
	if cfg.Delivery == AtLeastOnce { // at most once, what was fetched is acknowledged: no waiting may give it up
		handling = context.WithValue(handling, stoppingKey{}, c.fetching.Done())
	}
	c.ctx, c.cancel = context.WithCancelCause(handling)
	c.chain = Chain(slices.Concat(b.cfg.Middleware, cfg.Middleware)...)(c.dispatch)
	return c
}

func (c *consumer) start() {
	c.workers = c.cfg.Workers
	for n := range c.cfg.Workers {
		go c.runWorker(n, nil)
	}
}

func (c *consumer) stopFetching() {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	if c.cfg.Delivery == AtLeastOnce { // at most once, what was fetched is acknowledged: it is handled now or never
		for _, t := range c.ready[c.next:] {
			c.release(t)
		}
		c.ready, c.next = nil, 0
	}
	c.work.Broadcast()
}

// runWorker handles deliveries, first the given one if any, until the consumer stops.
func (c *consumer) runWorker(n int, t *task) {
	ended := false
	defer func() {
		if ended {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.workers--; c.workers == 0 {
				close(c.idle)
			}
			return
		}
		if p := recover(); p != nil {
			panic(p) // the program has no recover middleware, so that its panics are its own
		}
		// runtime.Goexit: this goroutine is lost, but neither the worker nor the message. Another goroutine lets the
		// message pass the chain again, with what happened as the outcome of the try.
		t := c.current[n]
		if c.slots != nil {
			<-c.slots
		}
		failure := fmt.Errorf("%w\n%s", ErrGoexit, debug.Stack())
		if t.Message != t.delivered { // a goroutine that the handler has left behind may be reading it
			t.Message = t.delivered // for the chain begins anew
		}
		if t.exited == t.Tries+1 { // again, and no handler was entered since: it is the chain that ends goroutines
			c.done(n, t, failure)
			t = nil
		} else {
			t.failure, t.exited = failure, t.Tries+1
		}
		go c.runWorker(n, t)
	}()
	for {
		if t == nil {
			if t = c.take(n); t == nil {
				ended = true
				return
			}
		}
		if !c.enter() {
			c.putBack(n, t)
			t = nil
			continue
		}
		err := c.chain(t, &t.Delivery)
		if c.slots != nil {
			<-c.slots
		}
		c.done(n, t, err)
		t = nil
	}
}

// enter waits for a turn among all topics of the group, and reports false if the consumer stops before.
func (c *consumer) enter() bool {
	if c.slots == nil {
		return true
	}
	stop := c.fetching
	if c.cfg.Delivery == AtMostOnce { // acknowledged: it is handled now or never
		stop = c.ctx
	}
	select {
	case c.slots <- struct{}{}:
		return true
	case <-stop.Done():
		return false
	}
}

// putBack returns a task that no handler has begun.
func (c *consumer) putBack(n int, t *task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current[n] = nil
	c.release(t)
}

// dispatch is the innermost handler: it finds the one for the event.
func (c *consumer) dispatch(ctx context.Context, d *Delivery) error {
	if err := d.failure; err != nil {
		d.failure = nil
		return err
	}
	d.Tries++
	known, ok := c.routes[d.Name]
	if !ok {
		if d.Name == "" {
			return Permanent(ErrNoName)
		}
		c.ignored.Add(1)
		return nil
	}
	version := max(d.Version, 1)
	handle := known.find(version)
	if handle == nil {
		return Permanent(fmt.Errorf("%w: %q version %d; known: %s", ErrVersion, d.Name, version, known.known()))
	}
	return handle(ctx, d)
}

// take returns the next task for worker n, and nil once the consumer stops.
func (c *consumer) take(n int) *task {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.ctx.Err() != nil:
			return nil
		case c.next < len(c.ready):
			t := c.ready[c.next]
			c.ready[c.next] = nil
			c.next++
			c.current[n] = t
			return t
		case c.stopping:
			return nil
		case !c.receiving && !c.halted && c.unsettled < c.cfg.Prefetch:
			c.receive()
		default:
			c.work.Wait()
		}
	}
}

// receive fetches a batch and makes it ready. It is called with the lock, which it gives up while it waits.
func (c *consumer) receive() {
	c.receiving, c.inReceive = true, true
	ctx, max := c.receiveCtx, min(receiveMax, c.cfg.Prefetch-c.unsettled)
	c.mu.Unlock()
	batch, err := c.sub.Receive(ctx, max)
	if err == nil && c.cfg.Delivery == AtMostOnce {
		batch = c.ackFirst(batch)
	}
	c.mu.Lock()
	c.inReceive = false
	c.admit(batch)
	if c.halted {
		c.rest.Broadcast()
	}
	switch {
	case err == nil:
		c.receiveErrs = 0
	case ctx.Err() == nil:
		c.receiveErrs++
		failures := c.receiveErrs
		c.mu.Unlock()
		c.pause(err, failures)
		c.mu.Lock()
	}
	c.receiving = false
	// One for each task but the one that this worker takes, and one that receives next.
	for range min(len(c.ready)-c.next, c.workers-1) {
		c.work.Signal()
	}
}

// pause waits before the next Receive after one failed.
func (c *consumer) pause(err error, failures int) {
	if errors.Is(err, transport.ErrClosed) {
		c.log.Error("bus: the subscription was closed from outside; the group stops", "error", err)
		<-c.fetching.Done()
		return
	}
	c.log.Warn("bus: receive failed, trying again", "error", err)
	c.wait(c.backoff(failures))
}

// wait returns after d, and false if the consumer stops before.
func (c *consumer) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.fetching.Done():
		return false
	}
}

// ackFirst acknowledges a batch before it is handled. Until that has worked nothing of it is handled, and it is tried
// again, for the transport counts the batch as in hand. If the consumer stops before, the batch goes back.
func (c *consumer) ackFirst(batch []transport.Delivery) []transport.Delivery {
	acks := make([]transport.Settlement, len(batch))
	for i := range batch {
		acks[i] = transport.Settlement{Tag: batch[i].Tag, Outcome: transport.Ack}
	}
	for failures := 1; ; failures++ {
		err := c.sub.Settle(c.ctx, acks)
		if err == nil {
			return batch
		}
		c.log.Warn("bus: acknowledge before handling failed; the messages are not handled now", "error", err)
		if errors.Is(err, transport.ErrClosed) || !c.wait(c.backoff(failures)) {
			return nil
		}
	}
}

// admit turns a batch into tasks: ready, or behind others of the same key.
func (c *consumer) admit(batch []transport.Delivery) {
	var tasks []task
	for i := range batch {
		if len(tasks) == 0 {
			tasks = make([]task, min(tasksPerAlloc, len(batch)-i))
		}
		t, d := &tasks[0], &batch[i]
		tasks = tasks[1:]
		t.Context, t.tag = c.ctx, d.Tag
		t.Message, t.Topic, t.Group, t.Attempt = d.Message, c.topic, c.group, d.Attempt
		t.delivered = d.Message
		c.unsettled++
		switch {
		case c.stopping && c.cfg.Delivery == AtLeastOnce:
			if c.keys[t.Key] == nil { // else it goes back at the end, after those of its key that are in hand
				c.release(t)
			}
		case t.Key == "" || c.enterKey(t):
			c.makeReady(t)
		}
	}
	if len(c.settlements) > 0 && c.next == len(c.ready) && !c.flushing {
		c.armFlush() // only releases: no worker will come by
	}
}

func (c *consumer) makeReady(t *task) {
	if c.next == len(c.ready) {
		c.ready, c.next = c.ready[:0], 0
	}
	c.ready = append(c.ready, t)
}

// done takes the outcome of a task.
func (c *consumer) done(n int, t *task, err error) {
	var delay time.Duration
	givenBack := err != nil && c.givesBack(err)
	if err != nil && !givenBack {
		delay = c.report(t, err)
	}
	c.mu.Lock()
	c.current[n] = nil
	if c.cfg.Delivery == AtMostOnce {
		c.unsettled--
	}
	switch {
	case err == nil:
		c.handled++
		c.settle(t.tag, transport.Ack)
		c.leaveKey(t)
	case givenBack:
		c.settle(t.tag, transport.Release)
	case c.cfg.Delivery == AtMostOnce:
		c.failed++
		c.leaveKey(t)
	default:
		c.failed++
		c.hold(t, delay)
	}
	if c.ctx.Err() != nil { // finish settles the rest, unless it has given this handler up
		c.mu.Unlock()
		return
	}
	// While settling fails, it is the timer that tries again.
	flush := c.flushErrs == 0 &&
		(len(c.settlements) >= flushSize || (len(c.settlements) > 0 && c.next == len(c.ready)))
	if !flush && len(c.settlements) > 0 {
		c.armFlush()
	}
	c.mu.Unlock()
	if flush {
		_ = c.flush(c.ctx) // it logs, and tries again
	}
}

// givesBack reports whether err came from a stop, and the message is neither handled nor tried in vain.
func (c *consumer) givesBack(err error) bool {
	if c.cfg.Delivery == AtMostOnce {
		return false
	}
	return c.ctx.Err() != nil || c.fetching.Err() != nil && errors.Is(err, ErrStopped)
}

// report logs why a task failed and returns the pause before it comes again. It is called without the lock, for loggers
// and errors are the program's code.
func (c *consumer) report(t *task, err error) time.Duration {
	if c.cfg.Delivery == AtMostOnce {
		c.log.Error("bus: handling failed; the message is lost, as at most once allows",
			"event", t.Name, "id", t.ID, "error", err)
		return 0
	}
	delay, asked := RetryDelay(err)
	if !asked {
		delay = c.backoff(t.Attempt)
	}
	c.log.Warn("bus: handling failed; the message comes again",
		"event", t.Name, "id", t.ID, "attempt", t.Attempt, "after", delay, "error", err)
	return delay
}

// hold has a failed task come again after a while. Meanwhile its key waits.
func (c *consumer) hold(t *task, delay time.Duration) {
	if c.closed {
		return
	}
	h := &hold{task: t}
	c.held[t] = h
	h.timer = time.AfterFunc(delay, func() { c.unhold(h) })
}

// backoff returns a random pause from MinBackoff to twice that, and from there on up to MaxBackoff twice as much with
// each attempt.
func (c *consumer) backoff(attempt int) time.Duration {
	low, high := c.cfg.MinBackoff, c.cfg.MaxBackoff
	for ; attempt > 1 && low <= high/2; attempt-- {
		low *= 2
	}
	if low <= high/2 {
		high = 2 * low
	} else {
		low = max(c.cfg.MinBackoff, high/2)
	}
	return low + rand.N(high-low+1)
}

// hold is a failed task that waits for its time to come again.
type hold struct {
	task  *task
	timer *time.Timer
}

func (c *consumer) unhold(h *hold) {
	c.mu.Lock()
	if c.held[h.task] != h {
		c.mu.Unlock()
		return
	}
	delete(c.held, h.task)
	c.settle(h.task.tag, transport.Requeue)
	c.returnKey(h.task)
	c.mu.Unlock()
	_ = c.flush(c.ctx)
}

// stuck describes the handlers that are running.
func (c *consumer) stuck() []string {
	var list []string
	for _, t := range c.current {
		if t != nil {
			list = append(list, fmt.Sprintf("event %q id %q", t.Name, t.ID))
		}
	}
	return list
}
