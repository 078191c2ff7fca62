// Package sqlite is the transport in an SQLite file: durable, embedded, without a server and without cgo. Processes on
// one machine can share the file.
//
// A message is safe when Publish returned: the file is in WAL mode with synchronous=FULL. Concurrent calls of Publish
// share a commit.
//
// Importing the package registers the scheme "sqlite":
//
//	sqlite:shop.db               a file, made on first use
//	sqlite::memory:              nothing survives; for tests
//	sqlite:shop.db?lease=7s      a consumer not heard of for so long is replaced; default 7s
//	  &poll_interval=50ms        longest pause between looks for other processes' messages; default 100ms
//	  &partitions=4              splits each group by key over up to so many instances; default 1
//	  &retention=168h            messages handled by all groups are removed after it; default 7 days
//	  &busy_timeout=10s          how long to wait for other processes' writes
//	  &synchronous=full          full, extra, or normal (a power failure may then lose what was published last),
//	                             off (a power failure may then damage the file; for tests)
//	  &max_page_count=100000     bounds the size of the file, in pages of 4 KiB
package sqlite

import (
	"context"
	"log/slog"
	"net/url"
	"time"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

var logDriver = sqllog.Driver{
	Dialect: store.SQLite,
	Poll:    100 * time.Millisecond,
	Bytes:   true,
	New:     newDialect,
}

func init() {
	transport.Register("sqlite", open)
	sqllog.Register(logDriver)
}

// Config configures a transport. Its zero value is ready to use.
type Config struct {
	// Lease is for how long a consumer that is not heard of keeps its place; then another takes over. Default: 7 s.
	Lease time.Duration
	// PollInterval is the longest pause between looks for messages of other processes. Default: 100 ms.
	PollInterval time.Duration
	// Partitions splits each group by key into so many parts, each held by one instance at a time. The instances share them
	// evenly, anew whenever one comes or goes: one that is to give up a partition handles what it has in hand of it first,
	// so that the order per key is kept. With more instances than partitions the rest stand by. Default: 1, so that one
	// instance works. All instances of a group must agree; once they agree on another number, it is taken over, and
	// messages that were handled out of order may come again.
	Partitions int
	// Retention is how long messages that all groups have handled are kept. Default: 7 days. Negative: for ever.
	Retention time.Duration
	// Logger gets warnings. Default: slog.Default().
	Logger *slog.Logger
}

// Transport is the transport in an SQLite file. Make it with [New] or transport.Open.
type Transport struct{ log *sqllog.Log }

var (
	_ transport.Transport      = (*Transport)(nil)
	_ transport.StatusReporter = (*Transport)(nil)
	_ transport.Pinger         = (*Transport)(nil)
	_ transport.Tailer         = (*Transport)(nil)
)

// New makes a transport on the caller's database, and the tables it needs. The context bounds that only. The database
// stays the caller's to close, after the transport.
func New(ctx context.Context, db *store.DB, cfg Config) (*Transport, error) {
	l, err := logDriver.Use(ctx, db, sqllog.Options{Lease: cfg.Lease, Poll: cfg.PollInterval, Partitions: cfg.Partitions,
		Retention: cfg.Retention, Logger: cfg.Logger, Listen: true})
	if err != nil {
		return nil, err
	}
	return &Transport{l}, nil
}

func open(ctx context.Context, u *url.URL) (transport.Transport, error) {
	l, err := logDriver.OpenURL(ctx, u)
	if err != nil {
		return nil, err
	}
	return &Transport{l}, nil
}

// Capabilities implements transport.Transport.
func (t *Transport) Capabilities() transport.Capabilities { return t.log.Capabilities() }

// Publish implements transport.Transport.
func (t *Transport) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	return t.log.Publish(ctx, topic, msgs)
}

// PublishTx publishes within the caller's transaction, a *sql.Tx: the messages are there once it commits. The topic's
// tables are made in it, if they are not there yet.
func (t *Transport) PublishTx(ctx context.Context, tx store.Execer, topic string, msgs []transport.Message) error {
	return t.log.PublishTx(ctx, tx, topic, msgs)
}

// Wake has consumers of this process look at topic now: a transaction that PublishTx was called with has committed.
// Without it they look often for a while.
func (t *Transport) Wake(topic string) { t.log.Wake(topic) }

// Cancel removes the messages with the id that are for a later time, and reports whether there were any. If tx is not
// nil, it does so within that transaction.
func (t *Transport) Cancel(ctx context.Context, tx store.Execer, id string) (bool, error) {
	return t.log.Cancel(ctx, tx, id)
}

// Subscribe implements transport.Transport.
func (t *Transport) Subscribe(ctx context.Context, cfg transport.SubscribeConfig) (transport.Subscription, error) {
	s, err := t.log.Subscribe(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Status implements transport.StatusReporter.
func (t *Transport) Status(ctx context.Context) ([]transport.GroupStatus, error) {
	return t.log.Status(ctx)
}

// Ping implements transport.Pinger.
func (t *Transport) Ping(ctx context.Context) error { return t.log.Ping(ctx) }

// Tail implements transport.Tailer.
func (t *Transport) Tail(ctx context.Context, topic string, start transport.Start, f func(m *transport.Message) error) error {
	return t.log.Tail(ctx, topic, start, f)
}

// Close implements transport.Transport.
func (t *Transport) Close() error { return t.log.Close() }
