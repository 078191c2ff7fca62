package sqllog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/transport"
)

// Config is what the drivers' own Configs come down to. All fields are set.
type Config struct {
	JSON       bool          // make tables whose payload is JSON
	Lease      time.Duration // a consumer that is not heard of for so long is replaced
	Poll       time.Duration // the longest pause between looks for messages
	Watch      time.Duration // the pause between looks for other processes' messages, on behalf of all groups
	Partitions int
	Retention  time.Duration // negative keeps for ever
	StallAfter time.Duration // a log that is held back for so long is reported
	Passive    bool          // no background work: for who publishes within transactions only
	Harmless   bool          // deliveries cannot kill: those in flight at a crash come again together
	Logger     *slog.Logger
	Close      func() error // closes the database, if it is the driver's to close
}

// Log is the transport behind the drivers.
type Log struct {
	db   *sql.DB
	d    Dialect
	cfg  Config
	caps transport.Capabilities
	hub  hub
	app  appender
	clock

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	topics  map[string]*Topic
	subs    map[*Subscription]struct{}
	closed  bool
	started bool // background work runs
	hears   bool // listen runs
	crashed atomic.Bool

	moveAt    atomic.Int64 // when moveDue looks next, in ms by the database's clock
	moveWake  chan struct{}
	notices   chan struct{}
	noticesMu sync.Mutex
	pending   map[string]struct{}  // texts of notices to send
	txNotices map[string]time.Time // when a notice went along with a caller's transaction, by topic
	txAt      atomic.Int64         // when PublishTx was called last, in ns since 1970
}

// New makes a Log over a database that is migrated.
func New(db *sql.DB, d Dialect, cfg Config) *Log {
	order := transport.OrderPerTopic
	if cfg.Partitions > 1 {
		order = transport.OrderPerKey
	}
	l := &Log{
		db: db, d: d, cfg: cfg,
		caps: transport.Capabilities{
			Durable: true, Order: order, Delay: true, Target: true, Replay: true, Transactional: true, MaxPayload: d.MaxPayload(),
		},
		topics: map[string]*Topic{}, subs: map[*Subscription]struct{}{}, pending: map[string]struct{}{}, txNotices: map[string]time.Time{},
		moveWake: make(chan struct{}, 1), notices: make(chan struct{}, 1),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.hub.init()
	return l
}

// Capabilities says what the transport can do.
func (l *Log) Capabilities() transport.Capabilities { return l.caps }

// errorf begins an error with the name of the driver.
func (l *Log) errorf(format string, args ...any) error {
	return fmt.Errorf(l.d.Name()+": "+format, args...)
}

// topic returns the topic, whose tables it makes on first use.
func (l *Log) topic(ctx context.Context, name string) (*Topic, error) {
	l.mu.Lock()
	t, closed := l.topics[name], l.closed
	l.mu.Unlock()
	if closed {
		return nil, transport.ErrClosed
	}
	if t != nil {
		return t, nil
	}
	t = &Topic{Name: name}
	t.Messages, t.Offsets = TableNames(name, l.d.UpperCase())
	if err := l.d.Prepare(ctx, t, l.cfg.JSON); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, transport.ErrClosed
	}
	if first := l.topics[name]; first != nil {
		return first, nil
	}
	l.topics[name] = t
	l.start()
	return t, nil
}

// start begins the background work; l.mu is held.
func (l *Log) start() {
	if l.started || l.cfg.Passive {
		return
	}
	l.started = true
	for _, work := range []func(){l.sendNotices, l.moveDue, l.retain, l.watchStalls} {
		l.wg.Go(work)
	}
}

// Close ends subscriptions and background work and, if it is the driver's, closes the database.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	subs := l.subs
	l.subs = nil
	l.mu.Unlock()
	var wg sync.WaitGroup
	for s := range subs {
		wg.Go(func() { _ = s.Close() })
	}
	wg.Wait()
	l.app.close()
	l.cancel()
	l.wg.Wait()
	return errors.Join(l.d.Close(), l.cfg.Close())
}

// Crash ends l as the death of its process would, for tests: nothing is given back.
func (l *Log) Crash() {
	l.crashed.Store(true)
	_ = l.Close()
}

func (l *Log) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// inTx runs f in a transaction.
func (l *Log) inTx(ctx context.Context, f func(*sql.Tx) error) error {
	defer l.d.Writing()()
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

// sleep waits for d, or until ctx ends; it reports whether it waited all of d.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
