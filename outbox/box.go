package outbox

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/internal/sweep"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// Defaults of Config.
const (
	DefaultName           = "postbus_outbox"
	DefaultInboxRetention = 7 * 24 * time.Hour
)

// ErrNotPrepared: the tables of the outbox were not made before the first transaction on SQLite, where they cannot be made
// beside it.
var ErrNotPrepared = errors.New("outbox: not prepared: call Box.Prepare before the first transaction")

// Config configures a Box. Its zero value is ready to use: the events wait in the database for a [Forwarder], of this or
// another process. While events are published and none runs, the Logger is told after a minute, and then every ten.
type Config struct {
	// Transport is that of the bus, if it is in the same database as the Box: events then go straight to their topics, and
	// no Forwarder is needed. The transports of packages transport/postgres, mysql and sqlite are possible; New cannot
	// tell whether theirs is the same database. Default: none.
	Transport transport.Transport
	// Name is the topic, in the database, where events wait for the Forwarder. Boxes of one database that have different
	// names are forwarded apart. Default: DefaultName.
	Name string
	// Layout is how they wait there. Default: Topic.
	Layout Layout
	// Codecs, Topic and Publishing are as in bus.Config, and should be the same as there.
	Codecs     []codec.Codec
	Topic      func(eventName string) string
	Publishing []bus.PublishMiddleware
	// InboxRetention is how long Handle knows which messages it has handled. A message that comes again later than that is
	// handled again. Default: DefaultInboxRetention. Negative: for ever.
	InboxRetention time.Duration
	// Logger gets warnings. Default: slog.Default().
	Logger *slog.Logger
}

// Box is the outbox and the inbox of a database. It holds no resources and need not be closed. Its methods may be called
// concurrently.
type Box struct {
	db        *store.DB
	cfg       Config
	err       error // what is wrong with cfg: all methods return it
	publisher bus.Publisher
	direct    engine // nil: into the outbox

	preparing chan struct{} // holds one while somebody prepares
	prepared  atomic.Bool
	log       *sqllog.Log // once prepared; nil with direct, or with Debezium

	writing chan struct{} // SQLite: a turn for each transaction of this Box, instead of sleeping for it
	handled sweep.Sweep   // of the inbox

	crash func(point string) // of tests; nil

	patience time.Duration // forwardPatience, but for tests

	mu         sync.Mutex
	forwarders map[*Forwarder]struct{} // those that run, to be woken
	askAt      time.Time               // when to ask who forwards; see attended
}

// engine writes messages within transactions: that of the outbox, or the transport of the bus.
type engine interface {
	PublishTx(ctx context.Context, tx store.Execer, topic string, msgs []transport.Message) error
	Cancel(ctx context.Context, tx store.Execer, id string) (bool, error)
	Wake(topic string)
}

//go:embed migrations
var migrations embed.FS

// New makes a Box in db, which stays the caller's to close. It does no I/O. What is wrong with cfg is the error of Prepare
// and of all other methods.
func New(db *store.DB, cfg Config) *Box {
	b := &Box{db: db, cfg: cfg, preparing: make(chan struct{}, 1), patience: forwardPatience,
		forwarders: map[*Forwarder]struct{}{}}
	if b.cfg.Name == "" {
		b.cfg.Name = DefaultName
	}
	if b.cfg.InboxRetention == 0 {
		b.cfg.InboxRetention = DefaultInboxRetention
	}
	if b.cfg.Logger == nil {
		b.cfg.Logger = slog.Default()
	}
	if b.cfg.Topic == nil {
		b.cfg.Topic = bus.TopicOf
	}
	if db == nil {
		b.err = fmt.Errorf("outbox: %w: the database is missing", bus.ErrInvalid)
		return b
	}
	b.handled.DB, b.handled.Table, b.handled.Retention = db, "postbus_inbox", b.cfg.InboxRetention
	b.handled.Logger, b.handled.Prefix = b.cfg.Logger, "outbox"
	if db.Dialect() == store.SQLite {
		b.writing = make(chan struct{}, 1)
	}
	caps := transport.Capabilities{Durable: true, Delay: true, Target: true}
	if cfg.Layout == Debezium {
		caps.Delay, caps.Target = false, false
		if err := b.checkDebezium(); err != nil {
			b.err = fmt.Errorf("outbox: %w: Config.Layout Debezium: %w", bus.ErrInvalid, err)
			return b
		}
	}
	if t := cfg.Transport; t != nil {
		var ok bool
		if b.direct, ok = t.(engine); !ok {
			b.err = fmt.Errorf("outbox: %w: Config.Transport: a %T cannot publish within a transaction; leave it out, and run a Forwarder to it",
				bus.ErrInvalid, t)
			return b
		}
		caps = t.Capabilities()
		caps.Values = false
	}
	if err := transport.CheckName("topic", b.cfg.Name); err != nil {
		b.err = fmt.Errorf("outbox: Config.Name: %w", err)
		return b
	}
	publisher, err := bus.NewPublisher(bus.PublisherConfig{
		Publish: collect, Capabilities: caps, Codecs: cfg.Codecs, Topic: cfg.Topic, Publishing: cfg.Publishing,
	})
	if err != nil {
		b.err = fmt.Errorf("outbox: %w", err)
	}
	b.publisher = publisher
	return b
}

// Prepare makes the tables, unless they are there. Handle, Tx and Forwarder.Start call it themselves, and so does In on
// PostgreSQL and MySQL; on SQLite it must come before the first transaction that In publishes in. It may be called again,
// and by many instances at once.
func (b *Box) Prepare(ctx context.Context) error {
	if b.err != nil || b.prepared.Load() {
		return b.err
	}
	select {
	case b.preparing <- struct{}{}:
		defer func() { <-b.preparing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if b.prepared.Load() {
		return nil
	}
	if err := b.migrate(ctx, "outbox", migrations, "migrations"); err != nil {
		return err
	}
	switch {
	case b.cfg.Layout == Debezium:
		if err := b.migrate(ctx, "outbox_debezium", debeziumMigrations, "debezium"); err != nil {
			return err
		}
	case b.direct == nil:
		l, err := b.open(ctx, sqllog.Options{Passive: true})
		if err != nil {
			return err
		}
		b.log = l
	}
	b.prepared.Store(true)
	return nil
}

func (b *Box) migrate(ctx context.Context, schema string, all embed.FS, folder string) error {
	files, err := fs.Sub(all, folder)
	if err == nil {
		err = b.db.Migrate(ctx, store.Schema{Name: schema, Files: files})
	}
	if err != nil {
		return fmt.Errorf("outbox: prepare: %w", err)
	}
	return nil
}

// open opens the engine of the database, and makes the topic of the outbox and its group.
func (b *Box) open(ctx context.Context, o sqllog.Options) (*sqllog.Log, error) {
	o.PayloadBytes, o.Logger = true, b.cfg.Logger
	l, err := sqllog.Open(ctx, b.db, o)
	if err != nil {
		return nil, fmt.Errorf("outbox: prepare: %w", err)
	}
	if err := l.Join(ctx, b.cfg.Name, forwarderGroup); err != nil {
		return nil, errors.Join(fmt.Errorf("outbox: %w", err), l.Close())
	}
	return l, nil
}

// engine returns what writes messages.
func (b *Box) engine(ctx context.Context) (engine, error) {
	switch {
	case b.err != nil:
		return nil, b.err
	case b.direct != nil:
		return b.direct, nil
	case b.prepared.Load():
		return b.indirect(), nil
	case b.db.Dialect() == store.SQLite:
		return nil, ErrNotPrepared
	}
	if err := b.Prepare(ctx); err != nil {
		return nil, err
	}
	return b.indirect(), nil
}

func (b *Box) indirect() engine {
	if b.cfg.Layout == Debezium {
		return debezium{b.db.Dialect()}
	}
	return b.log
}

// attach has f woken, until detach.
func (b *Box) attach(f *Forwarder) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forwarders[f] = struct{}{}
}

func (b *Box) detach(f *Forwarder) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.forwarders, f)
}

// expect has the forwarders of this process look often for a while: a transaction is about to commit.
func (b *Box) expect(ctx context.Context) {
	b.mu.Lock()
	for f := range b.forwarders {
		f.log.Expect(b.cfg.Name)
	}
	ask := b.attended(time.Now())
	b.mu.Unlock()
	if ask {
		b.warnUnattended(ctx)
	}
}

// wake has who reads the topics look now.
func (b *Box) wake(topics []string) {
	if b.direct != nil {
		for _, t := range topics {
			b.direct.Wake(t)
		}
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for f := range b.forwarders {
		f.log.Wake(b.cfg.Name)
	}
}
