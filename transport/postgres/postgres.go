// Package postgres is the transport in a PostgreSQL database, 13 or newer, on the tables of watermill-sql: plain
// Watermill programs can publish to and consume from the same topics.
//
// Messages are delivered in the order of (transaction id, offset), below the oldest transaction that still runs on the
// server; so none is passed over that commits late. A transaction that stays open for long therefore holds all topics
// back: Status and a warning name it.
//
// Importing the package registers the schemes "postgres" and "postgresql":
//
//	postgres://user:password@host/database?sslmode=…  as libpq has it, and
//	  &payload=bytea             new tables take any bytes instead of JSON only
//	  &lease=7s                  a consumer not heard of for so long is replaced; default 7s
//	  &poll_interval=1s          longest pause between looks for messages; notices shorten it; default 1s
//	  &partitions=4              splits each group by key over up to so many instances; default 1
//	  &retention=168h            messages handled by all groups are removed after it; default 7 days
//	  &stall_warning=10s         a log that is held back for so long is reported; default 10s
//	  &pool_max_conns=8          connections; one more hears notices once a group subscribes; default 8
package postgres

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
	Dialect: store.Postgres,
	Poll:    time.Second,
	New:     newDialect,
}

func init() {
	transport.Register("postgres", open)
	transport.Register("postgresql", open)
	sqllog.Register(logDriver)
}

// Config configures a transport. Its zero value is ready to use.
type Config struct {
	// Lease is for how long a consumer that is not heard of keeps its place; then another takes over. Default: 7 s.
	Lease time.Duration
	// PollInterval is the longest pause between looks for messages. Notices shorten it. Default: 1 s.
	PollInterval time.Duration
	// Partitions splits each group by key into so many parts, each held by one instance at a time. The instances share them
	// evenly, anew whenever one comes or goes: one that is to give up a partition handles what it has in hand of it first,
	// so that the order per key is kept. With more instances than partitions the rest stand by. Default: 1, so that one
	// instance works. All instances of a group must agree; once they agree on another number, it is taken over, and
	// messages that were handled out of order may come again.
	Partitions int
	// Retention is how long messages that all groups have handled are kept. Default: 7 days. Negative: for ever.
	Retention time.Duration
	// PayloadBytes makes new tables whose payload is BYTEA: they take any bytes. Otherwise it is JSON, as Watermill has it.
	// Tables that exist stay as they are.
	PayloadBytes bool
	// StallAfter is for how long a transaction may hold a log back before a warning names it. Default: 10 s.
	StallAfter time.Duration
	// Logger gets warnings. Default: slog.Default().
	Logger *slog.Logger
}

// Transport is the transport in a PostgreSQL database. Make it with [New] or transport.Open.
type Transport struct{ log *sqllog.Log }

var (
	_ transport.Transport      = (*Transport)(nil)
	_ transport.StatusReporter = (*Transport)(nil)
	_ transport.Pinger         = (*Transport)(nil)
	_ transport.Tailer         = (*Transport)(nil)
)

// New makes a transport on the caller's database, and the tables it needs. The context bounds that only. The database
// stays the caller's to close, after the transport. Once a group subscribes, notices are heard on one more connection,
// to where those of the database lead. Where it cannot be had, or leads through a pooler that shares connections out by
// transactions, other processes' messages are found by polling.
func New(ctx context.Context, db *store.DB, cfg Config) (*Transport, error) {
	l, err := logDriver.Use(ctx, db, sqllog.Options{Lease: cfg.Lease, Poll: cfg.PollInterval, Partitions: cfg.Partitions,
		Retention: cfg.Retention, Logger: cfg.Logger, StallAfter: cfg.StallAfter, PayloadBytes: cfg.PayloadBytes, Listen: true})
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
// tables are made outside of it, if they are not there yet.
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
