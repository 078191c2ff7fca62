package sqllog

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/postbus/postbus/store"
)

// Dialect is what differs between databases. Its methods may be called concurrently. Queries of the engine itself are
// written with "?" for arguments and go through Bind.
type Dialect interface {
	// Name begins errors and log lines: "postgres".
	Name() string
	// UpperCase reports whether table names that differ in case only are different tables.
	UpperCase() bool
	// MaxPayload is the largest payload in bytes; 0 is no limit.
	MaxPayload() int
	// Now is an SQL expression for the milliseconds since 1970 by the database's clock.
	Now() string
	// Quote quotes an identifier.
	Quote(identifier string) string
	// Bind rewrites "?" as the database wants arguments.
	Bind(query string) string
	// InsertIgnore makes an INSERT do nothing where the key exists; the query begins with "INSERT INTO".
	InsertIgnore(query string) string
	// Writing holds this process's writers in line where the database cannot do it well; the result ends it. Append,
	// Save with a *sql.DB, Prepare and DeleteThrough do it themselves.
	Writing() (done func())
	// SkipLocked ends a SELECT that locks the rows it reads, and passes over those that are locked.
	SkipLocked() string
	// Class tells what is known after err.
	Class(err error) Class

	// Prepare makes the tables of t, or checks that they are what they must be, and sets t.JSON.
	Prepare(ctx context.Context, t *Topic, json bool) error
	// Append writes a batch in one transaction.
	Append(ctx context.Context, b *Batch) error
	// AppendTx writes a step within the caller's transaction.
	AppendTx(ctx context.Context, tx store.Execer, s *Step) error

	// Bound is an SQL expression, with one "?" for the name of the topic, for a number: what is published after it was
	// read is beyond it.
	Bound(t *Topic) string
	// Within reports whether p is within a number that Bound gave.
	Within(p Pos, bound int64) bool
	// Read returns up to limit rows beyond after and within bound, in the order of the log, and none before which another
	// can still appear. More says that there can be others within the bound.
	Read(ctx context.Context, t *Topic, after Pos, bound int64, limit int) (rows []Row, more bool, err error)
	// ReadAt returns the rows at the positions, which ascend; those that are gone are left out.
	ReadAt(ctx context.Context, t *Topic, at []Pos) ([]Row, error)
	// End returns the position at which a group that starts now begins, and the positions beyond it that exist already.
	End(ctx context.Context, t *Topic) (Pos, []Pos, error)
	// Since returns up to limit rows beyond after whose created_at is t or later, in the order of the log.
	Since(ctx context.Context, t *Topic, after Pos, since time.Time, limit int) ([]Row, error)
	// DeleteThrough removes up to limit of the oldest rows that are at or before last and were created before cutoff.
	DeleteThrough(ctx context.Context, t *Topic, last Pos, cutoff time.Time, limit int) (deleted int, err error)
	// Lag returns how many rows are beyond after, counting to limit, and the age of the oldest.
	Lag(ctx context.Context, t *Topic, after Pos, limit int) (n int, oldest time.Duration, err error)
	// Stall returns what holds the log back, or nil.
	Stall(ctx context.Context, t *Topic, after Pos) (*Stall, error)

	// Offset reads a consumer's offset; false if it has none.
	Offset(ctx context.Context, q Querier, t *Topic, consumer string) (Pos, bool, error)
	// CreateOffset writes the first offset of a consumer, unless it has one.
	CreateOffset(ctx context.Context, q Querier, t *Topic, consumer string, at Pos) error
	// LowestOffset returns the least offset of all consumers; false if there are none.
	LowestOffset(ctx context.Context, t *Topic) (Pos, bool, error)
	// Save writes state and offset, unless the lease has another token; it reports whether it had this one.
	Save(ctx context.Context, q Querier, s *Save) (bool, error)

	// Listen waits for notices of Notify and calls heard with each text, until ctx ends. It calls ready when no notice
	// can be missed any more. A database without notices looks itself, every so often, or returns at once.
	Listen(ctx context.Context, every time.Duration, ready func(), heard func(string)) error
	// Watches reports whether Listen looks itself, on behalf of all groups, so that none need look often.
	Watches() bool
	// Prompt reports whether what was committed before Read is read. Where it is not, it is looked for again soon.
	Prompt() bool
	// Notify tells all instances; nil texts are none.
	Notify(ctx context.Context, texts []string) error
	// Close releases what the dialect holds.
	Close() error
}

// Querier is a *sql.DB, *sql.Conn or *sql.Tx.
type Querier = store.Querier

// NoBound is within which everything is.
const NoBound = math.MaxInt64

// Class is what is known of a write after an error.
type Class uint8

const (
	// Unknown: it may have happened.
	Unknown Class = iota
	// Refused: the database answered, and nothing happened.
	Refused
	// BadData: as Refused, because of a value.
	BadData
	// NotSent: the database was not reached.
	NotSent
)

// ErrForeignTable is of a table that has the name of a topic's and other columns.
var ErrForeignTable = errors.New("exists and is not as watermill-sql makes it")

// Topic is a topic and its tables.
type Topic struct {
	Name              string
	Messages, Offsets string // not quoted
	JSON              bool   // the column payload is of a JSON type
	// Origin is the server whose transaction ids the log holds, as the row in postbus_topics says.
	Origin string
}

// Row is a row of a messages table.
type Row struct {
	Pos      Pos
	UUID     string
	Metadata []byte // JSON, or nil
	Payload  []byte
	Created  time.Time // only from Since
}

// Rows are to be appended to a log, in their order.
type Rows struct {
	Topic    *Topic
	UUID     []string
	Metadata []string
	Payload  [][]byte // nil is NULL
}

func (r *Rows) add(row encoded) {
	r.UUID, r.Metadata, r.Payload = append(r.UUID, row.uuid), append(r.Metadata, row.metadata), append(r.Payload, row.payload)
}

// Batch is one transaction of appends, in order.
type Batch struct{ Steps []*Step }

// Step is one kind of rows: of a log or, if Rows.UUID is empty, of postbus_later.
type Step struct {
	Rows
	Later []Later
	// Placed gives the rows of postbus_later places in the order of the log.
	Placed bool
}

// Later is a row of postbus_later.
type Later struct {
	ID           int64
	Topic, Group string
	Due          int64 // ms since 1970
	Hash         int   // of the key, for partitions
	Attempts     int
	Pos          Pos   // its place in the log; zero if it has none
	Taken        int64 // the token of the lease under which it was fetched
	UUID         string
	Metadata     string
	Payload      []byte
}

// Save is one write of a consumer's progress.
type Save struct {
	Topic                  *Topic
	Group, Consumer, Owner string
	Part                   int
	Token                  int64
	Lease                  time.Duration // 0 gives the lease up
	Offset                 Pos
	State                  []byte
}

// Stall is what keeps a log from being read on.
type Stall struct {
	PID int
	Age time.Duration // of the transaction
}
