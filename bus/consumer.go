package bus

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
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
	publisher    *publisher
	again        PublishHandler // brings a message again later; nil if the transport or KeepOrder do not allow it
	routes       map[string]versions
	chain        Handler
	slots        chan struct{} // limits all consumers of the group together; nil if there is one only
	fail         func(error)   // tells the bus that the group can go on no longer
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
	batches     uint64 // so far
	admitted    uint64 // tasks so far
	keys        map[string]*keyQueue
	current     []*task         // of each worker
	held        map[*task]*hold // failed, waiting for their time to come again
	unsettled   int             // deliveries in hand whose settlement has not arrived
	receiving   bool            // a worker is the receiver
	inReceive   bool            // and has called Receive
	halted      bool            // no Receive may begin
	receiveErrs int             // in a row
	receiveErr  error           // the last of them
	stopping    bool
	closed      bool
	handled     uint64
	setAside    uint64
	failed      uint64
	ignored     atomic.Uint64 // the only one that is counted without the lock

	settlements []transport.Settlement
	returning   []string // keys whose tasks are among them because one of them is requeued
	spare       []transport.Settlement
	flushing    bool
	flushTimer  *time.Timer
	flushArmed  bool
	flushErrs   int   // in a row
	flushErr    error // the last of them
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

// newConsumer makes a consumer that has no subscription yet.
func newConsumer(b *Bus, group, topic string, cfg GroupConfig, routes map[string]versions, slots chan struct{}) (*consumer, error) {
	c := &consumer{
		group: group, topic: topic, cfg: cfg, publisher: b.publisher, routes: routes, slots: slots, fail: b.fail,
		log:  b.cfg.Logger.With("bus", b.cfg.Name, "group", group, "topic", topic),
		idle: make(chan struct{}), keys: map[string]*keyQueue{}, held: map[*task]*hold{},
		current: make([]*task, cfg.Workers),
	}
	if caps := b.publisher.caps; caps.Delay && caps.Target && !cfg.KeepOrder {
		c.again = b.cfg.Transport.Publish
	}
	c.work, c.rest = sync.NewCond(&c.mu), sync.NewCond(&c.mu)
	c.fetching, c.stop = context.WithCancel(context.Background())
	c.receiveCtx, c.interrupt = context.WithCancel(c.fetching)
	handling := handlingContext{Context: context.Background(), bus: b}
	if cfg.Delivery == AtLeastOnce { // at most once, what was fetched is acknowledged: no waiting may give it up
		handling.stopping = c.fetching.Done()
	}
	c.ctx, c.cancel = context.WithCancelCause(handling)
	var err error
	if c.chain, err = wrap(c.dispatch, "GroupConfig.Middleware", cfg.Middleware); err == nil {
		c.chain, err = wrap(c.chain, "Config.Middleware", b.cfg.Middleware)
	}
	if err != nil {
		c.cancel(err)
		c.stop()
		return nil, err
	}
	return c, nil
}

// wrap puts the middleware of a configuration around h. Middleware is the program's code: that it panics, or returns no
// handler, is an error here and not a crash at the first delivery.
func wrap[H Handler | PublishHandler, M ~func(H) H](h H, config string, middleware []M) (_ H, err error) {
	for i := len(middleware) - 1; i >= 0; i-- {
		func() {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("%w: %s[%d] panicked: %v", ErrInvalid, config, i, p)
				}
			}()
			if h = middleware[i](h); h == nil {
				err = fmt.Errorf("%w: %s[%d] returned no handler", ErrInvalid, config, i)
			}
		}()
		if err != nil {
			return nil, err
		}
	}
	return h, nil
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
		t.SetMessage(t.delivered) // for the chain begins anew
		t.Logged = false
		if t.exited == t.Tries+1 { // again, and no handler was entered since: it is the chain that ends goroutines
			t = c.done(n, t, failure)
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
		t = c.done(n, t, err)
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
	event := d.schema()
	known, ok := c.routes[event.name]
	if !ok {
		if event.name == "" {
			return Permanent(ErrNoName)
		}
		c.ignored.Add(1)
		return nil
	}
	handle := known.find(event.version)
	if handle == nil {
		return Permanent(fmt.Errorf("%w: %q version %d; known: %s", ErrVersion, event.name, event.version, known.known()))
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
			return c.pop(n)
		case c.stopping:
			return nil
		case !c.receiving && !c.halted && c.unsettled < c.cfg.Prefetch:
			c.receive()
		default:
			c.work.Wait()
		}
	}
}

// pop returns the first task that is ready, for worker n, or nil.
func (c *consumer) pop(n int) *task {
	if c.next == len(c.ready) {
		return nil
	}
	t := c.ready[c.next]
	c.ready[c.next] = nil
	c.next++
	c.current[n] = t
	return t
}

// stuck describes the handlers that are running.
func (c *consumer) stuck() []string {
	var list []string
	for _, t := range c.current {
		if t != nil {
			m := t.Message()
			list = append(list, fmt.Sprintf("event %q id %q", m.Name, m.ID))
		}
	}
	return list
}
