package quarantine

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// Defaults of Config.
const (
	DefaultReplayedRetention = 7 * 24 * time.Hour
	DefaultTimeout           = 10 * time.Second
)

// Errors of a Store, to be matched with errors.Is.
var (
	// ErrNotFound: there is no entry with the id.
	ErrNotFound = errors.New("quarantine: no such entry")
	// ErrStatus: the entry is not in a state in which that can be done.
	ErrStatus = errors.New("quarantine: wrong status")
	// ErrNoGroup: the transport does not know the group that failed, so that a replay would reach nobody.
	ErrNoGroup = errors.New("quarantine: the group does not exist")
	// ErrUndecodable: an edited message cannot be decoded.
	ErrUndecodable = errors.New("quarantine: the message cannot be decoded")
)

// Config configures a Store. Its zero value keeps, lists and discards; Replay needs the Transport.
type Config struct {
	// Transport is where messages are replayed to: that of the bus, or another handle of the same. It must have the
	// capability Target. Default: none.
	Transport transport.Transport
	// ParkKeys names the groups in which messages wait behind one of their key: once a message with a key is in quarantine,
	// later ones of that key, topic and group wait here behind it, in their order. When it has been replayed and handled, or
	// was discarded, they are brought one after the other; other keys flow. It needs a Transport, and Run in one instance at
	// least. AllGroups stands for all. Default: none.
	ParkKeys []string
	// Check returns why a group cannot decode a message that was edited: CanDecode of the bus does. Edit calls it, beside
	// looking whether JSON is well-formed. Default: none.
	Check func(group string, m *transport.Message) error
	// Retention is how long an entry waits after its last failure, before Expire discards it. Default: for ever.
	Retention time.Duration
	// ReplayedRetention is how long entries that were replayed are kept. Default: DefaultReplayedRetention. Negative: for
	// ever.
	ReplayedRetention time.Duration
	// Timeout bounds what Put waits for the database. Default: DefaultTimeout.
	Timeout time.Duration
	// Logger gets what no caller is told. Default: slog.Default().
	Logger *slog.Logger
}

// Store is a quarantine in a database. Its methods may be called concurrently, and in many processes at once.
type Store struct {
	db     *store.DB
	cfg    Config
	err    error // what is wrong with cfg: all methods return it
	opened bool  // by Open, so that Close closes the database

	preparing chan struct{} // holds one while somebody prepares
	prepared  atomic.Bool
	puts      puts
	down      atomic.Bool // the database did not answer a gate, and somebody has said so

	linesMu sync.Mutex
	lines   map[string]*lines // of each group

	crash atomic.Pointer[func(point string) error] // of tests; nil
}

//go:embed migrations
var migrations embed.FS

// New makes a Store in db, which stays the caller's to close. It does no I/O. What is wrong with cfg is the error of
// Prepare and of all other methods.
func New(db *store.DB, cfg Config) *Store {
	s := &Store{db: db, cfg: cfg, preparing: make(chan struct{}, 1)}
	if s.cfg.ReplayedRetention == 0 {
		s.cfg.ReplayedRetention = DefaultReplayedRetention
	}
	if s.cfg.Timeout <= 0 {
		s.cfg.Timeout = DefaultTimeout
	}
	if s.cfg.Logger == nil {
		s.cfg.Logger = slog.Default()
	}
	if db == nil {
		s.err = fmt.Errorf("quarantine: %w: the database is missing", bus.ErrInvalid)
	}
	s.cfg.ParkKeys = slices.Clone(cfg.ParkKeys)
	if len(cfg.ParkKeys) > 0 && cfg.Transport == nil {
		s.err = fmt.Errorf("quarantine: %w: Config.ParkKeys needs Config.Transport", bus.ErrInvalid)
	}
	if t := cfg.Transport; t != nil && !t.Capabilities().Target {
		s.err = fmt.Errorf("quarantine: %w: Config.Transport: a %T cannot bring a message to one group alone", bus.ErrInvalid, t)
	}
	return s
}

// Open opens the database that a URL names, as store.Open does, and makes a Store in it whose tables are there. ctx bounds
// that; the caller closes the Store. With "sqlite:quarantine.db" no server is needed.
func Open(ctx context.Context, url string, cfg Config) (*Store, error) {
	db, err := store.Open(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	s := New(db, cfg)
	s.opened = true
	if err := s.Prepare(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// Close closes the database if Open has opened it.
func (s *Store) Close() error {
	if !s.opened {
		return nil
	}
	return s.db.Close()
}

// Prepare makes the tables, unless they are there. All other methods call it themselves. It may be called again, and by
// many instances at once.
func (s *Store) Prepare(ctx context.Context) error {
	if s.err != nil || s.prepared.Load() {
		return s.err
	}
	select {
	case s.preparing <- struct{}{}:
		defer func() { <-s.preparing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.prepared.Load() {
		return nil
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	if err := s.db.Migrate(ctx, store.Schema{Name: "quarantine", Files: files}); err != nil {
		return fmt.Errorf("quarantine: prepare: %w", err)
	}
	s.prepared.Store(true)
	return nil
}

// tx runs f in a transaction, once the tables are there.
func (s *Store) tx(ctx context.Context, f func(tx *sql.Tx) error) error {
	if err := s.Prepare(ctx); err != nil {
		return err
	}
	return s.db.Tx(ctx, f)
}

// point is where tests let the process die.
func (s *Store) point(name string) error {
	if crash := s.crash.Load(); crash != nil {
		return (*crash)(name)
	}
	return nil
}

func nowMS() int64 { return time.Now().UnixMilli() }
