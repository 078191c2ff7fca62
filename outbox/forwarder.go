package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// ForwarderConfig configures a Forwarder. Its zero value is ready to use.
type ForwarderConfig struct {
	// Quarantine keeps messages that the target refuses for good. Default: none; they stay in the outbox, are tried again
	// every minute, and count against Batch.
	Quarantine Quarantine
	// Batch is how many messages may be on their way at once, at most: as many can come twice after a crash.
	// Default: DefaultBatch. At most MaxTailBatch with Tail.
	Batch int
	// Lease is for how long a Forwarder that is not heard of keeps its place; then another takes over. Default: 7 s.
	Lease time.Duration
	// PollInterval is the longest pause between looks for messages. Commits in this process end it at once, those of
	// others where the database has notices. Default: 1 s on PostgreSQL, that of the transport on the others.
	PollInterval time.Duration
	// Tail reads the outbox from the write-ahead log of PostgreSQL, by logical replication, instead of asking for what is
	// there: a few milliseconds after the commit, in the order of commits exactly, and past transactions that stay open.
	// It needs wal_level "logical" and the right to replicate, and makes a publication and a slot, the latter once all
	// transactions of the server have ended that were open then: until that, the first Start waits. Box.DropTail removes
	// them. All Forwarders of a Box must agree. Default: false.
	Tail bool
	// Keep is how long messages stay in the outbox, at least, although they were forwarded; with Tail they go at
	// once. Default: DefaultKeep.
	Keep time.Duration
}

// Defaults of ForwarderConfig.
const (
	DefaultBatch = 1000
	DefaultKeep  = 10 * time.Second
)

// MaxTailBatch is the largest ForwarderConfig.Batch with Tail.
const MaxTailBatch = tailMost / 2

// forwarderGroup is the group of all Forwarders of a Box: one of them has its lease.
const forwarderGroup = "forwarder"

// Quarantine keeps messages that cannot be forwarded, until somebody decides about them. Those of middleware are.
type Quarantine interface {
	// Put returns nil only when d is safe; it can be called again for a message that it has already. The topic of d is
	// where it was to go, and its group the name of the Box.
	Put(ctx context.Context, d *bus.Delivery, cause error) error
}

// Forwarder brings the events of a Box to another transport. Of several, in as many processes, one works and the others
// wait for its place. Its methods may be called concurrently.
//
// Events of one key arrive in the order of their commits; on PostgreSQL without Tail, in that of the ids of their
// transactions. One is marked as forwarded once the target has confirmed it, so
// that a crash makes duplicates, with equal ids, and loses nothing. While the target does not take messages they wait, and
// are tried again after ever longer pauses, up to 5 seconds.
type Forwarder struct {
	box    *Box
	target transport.Transport
	cfg    ForwarderConfig

	log   *sqllog.Log // set by Start, before the Box knows the Forwarder; nil with Debezium
	owner string      // as the status of the group names it
	tail  *tail

	mu      sync.Mutex
	started bool
	stop    context.CancelFunc // nothing new is begun
	kill    context.CancelFunc // what was begun is given up
	done    chan struct{}
	err     error // once done
	trouble map[string]trouble
	held    int
}

// NewForwarder makes a Forwarder to target, which stays the caller's to close, after the Forwarder has stopped. It does no
// I/O.
func NewForwarder(box *Box, target transport.Transport, cfg ForwarderConfig) (*Forwarder, error) {
	var errs []error
	switch {
	case box == nil:
		errs = append(errs, errors.New("the Box is missing"))
	case box.err != nil:
		errs = append(errs, box.err)
	case box.direct != nil:
		errs = append(errs, errDirect)
	}
	if target == nil {
		errs = append(errs, errors.New("the target is missing"))
	}
	if cfg.Tail && box != nil && box.err == nil && box.db.Dialect() != store.Postgres {
		errs = append(errs, fmt.Errorf("the option Tail is for PostgreSQL, and the Box is on %s", box.db.Dialect()))
	}
	if !cfg.Tail && box != nil && box.cfg.Layout == Debezium {
		errs = append(errs, errors.New("the layout Debezium can only be read with Tail, on PostgreSQL"))
	}
	if cfg.Batch < 0 || cfg.Lease < 0 || cfg.PollInterval < 0 || cfg.Keep < 0 {
		errs = append(errs, fmt.Errorf("the fields Batch %d, Lease %v, PollInterval %v and Keep %v must not be negative",
			cfg.Batch, cfg.Lease, cfg.PollInterval, cfg.Keep))
	}
	if cfg.Tail && cfg.Batch > MaxTailBatch {
		errs = append(errs, fmt.Errorf("the field Batch %d must be at most %d with Tail", cfg.Batch, MaxTailBatch))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("outbox: %w: Forwarder: %w", bus.ErrInvalid, errors.Join(errs...))
	}
	if cfg.Batch == 0 {
		cfg.Batch = DefaultBatch
	}
	if cfg.Keep == 0 {
		cfg.Keep = DefaultKeep
	}
	return &Forwarder{box: box, target: target, cfg: cfg, trouble: map[string]trouble{}}, nil
}

// Start makes the tables, unless they are there, and forwards until Stop. Its context bounds starting only. A failed
// Start leaves nothing running, and can be tried again.
func (f *Forwarder) Start(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.started {
		return fmt.Errorf("outbox: %w: the Forwarder was started before", bus.ErrInvalid)
	}
	if err := f.box.Prepare(ctx); err != nil {
		return err
	}
	sub, err := f.subscribe(ctx)
	if err != nil {
		return err
	}
	soft, stop := context.WithCancel(context.WithoutCancel(ctx))
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	f.started, f.stop, f.kill, f.done = true, stop, kill, make(chan struct{})
	if f.log != nil {
		f.box.attach(f)
	}
	go func() {
		defer close(f.done)
		defer kill()
		newPump(f, sub).run(soft, hard)
		f.box.detach(f)
		f.forget()
		f.err = sub.Close()
		if f.log != nil {
			f.err = errors.Join(f.err, f.log.Close())
		}
	}()
	return nil
}

// subscribe opens the outbox; Forwarder.log is to be closed after what it returns.
func (f *Forwarder) subscribe(ctx context.Context) (transport.Subscription, error) {
	if f.box.cfg.Layout == Debezium {
		t, err := f.box.startTail(ctx, f.cfg.Batch, func(context.Context) error { return nil })
		if err != nil {
			return nil, err
		}
		f.tail = t
		return t, nil
	}
	l, err := f.box.open(ctx, sqllog.Options{Lease: f.cfg.Lease, Poll: f.cfg.PollInterval, Retention: f.cfg.Keep,
		Listen: !f.cfg.Tail, Harmless: true})
	if err != nil {
		return nil, err
	}
	if f.cfg.Tail {
		if f.tail, err = f.box.startTail(ctx, f.cfg.Batch, func(ctx context.Context) error { return l.Sweep(ctx, f.box.cfg.Name) }); err != nil {
			return nil, errors.Join(err, l.Close())
		}
		f.log = l
		return f.tail, nil
	}
	sub, err := l.Subscribe(ctx, transport.SubscribeConfig{Topic: f.box.cfg.Name, Group: forwarderGroup, Prefetch: f.cfg.Batch})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("outbox: %w", err), l.Close())
	}
	f.log, f.owner = l, sub.Owner()
	return sub, nil
}

// Stop begins nothing more, lets what was begun be confirmed and marked, and gives its place to another Forwarder. When
// ctx ends it gives up what is left. It may be called at any time, also before Start and more than once.
func (f *Forwarder) Stop(ctx context.Context) error {
	f.mu.Lock()
	started, stop, kill, done := f.started, f.stop, f.kill, f.done
	f.mu.Unlock()
	if !started {
		return nil
	}
	stop()
	select {
	case <-done:
		return f.err
	case <-ctx.Done():
		kill()
		return ctx.Err()
	}
}

// Run is Start, and Stop when ctx ends.
func (f *Forwarder) Run(ctx context.Context) error { return between(ctx, f.Start, f.Stop) }
