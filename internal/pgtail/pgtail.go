// Package pgtail reads the rows that are inserted into a table of PostgreSQL from the write-ahead log, by logical
// replication with the plugin pgoutput: in the order of commits, a few milliseconds after them, and without a query.
//
// A replication slot keeps the place across restarts, and is a lease as well: the server lets one process read it.
package pgtail

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

var (
	// ErrWALLevel says that the server does not write what logical replication needs.
	ErrWALLevel = errors.New(`wal_level must be "logical"`)
	// ErrBusy says that another process reads the slot.
	ErrBusy = errors.New("the replication slot is in use")
	// ErrForeign says that the publication or slot of this name is somebody else's.
	ErrForeign = errors.New("is not what this program would have made")
)

// Config configures a Tail. All fields are required.
type Config struct {
	// Name is that of the publication and of the slot: lower-case letters, digits and underscores, at most 63.
	Name string
	// Table is the table in SQL, quoted where it must be.
	Table string
	// Logger gets a warning when a slot that fell behind is made anew.
	Logger *slog.Logger
}

// Tail reads one table. Its methods may be called concurrently.
type Tail struct {
	db      *sql.DB
	cfg     Config
	silence time.Duration
	// patience is for how long Prepare waits for the slot and says nothing.
	patience time.Duration
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// New makes a Tail of a table in db, whose driver must be pgx's. It does no I/O.
func New(db *sql.DB, cfg Config) (*Tail, error) {
	if !slotName.MatchString(cfg.Name) {
		return nil, fmt.Errorf("replication slot %q: a name must be lower-case letters, digits and underscores, at most 63", cfg.Name)
	}
	return &Tail{db: db, cfg: cfg, silence: silence, patience: slotPatience}, nil
}

// Prepare makes the publication and the slot, or checks those that there are. A slot whose write-ahead log the server
// has thrown away (max_slot_wal_keep_size) is made anew: what was inserted in between is not read. If there was no slot,
// what is in the table already is not read either. A slot is made once all transactions have ended that were open before.
func (t *Tail) Prepare(ctx context.Context) error {
	conn, err := t.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var level string
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	err = conn.QueryRowContext(asking, "SHOW wal_level").Scan(&level)
	cancel()
	if err != nil {
		return err
	}
	if err := checkLevel(level); err != nil {
		return err
	}
	// Several instances begin at once: one makes them, under a lock, and the others find them.
	const lock = "hashtextextended('postbus replication ' || $1, 0)"
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock("+lock+")", t.cfg.Name); err != nil {
		return err
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock("+lock+")", t.cfg.Name)
	}()
	if err := t.preparePublication(ctx, conn); err != nil {
		return err
	}
	return t.prepareSlot(ctx, conn)
}

func checkLevel(level string) error {
	if level == "logical" {
		return nil
	}
	return fmt.Errorf("%w and is %q: set it in postgresql.conf, or by ALTER SYSTEM SET wal_level = 'logical', and restart the server",
		ErrWALLevel, level)
}

func (t *Tail) preparePublication(ctx context.Context, conn *sql.Conn) error {
	var inserts, ours bool
	err := conn.QueryRowContext(ctx, `SELECT p.pubinsert AND NOT p.pubupdate AND NOT p.pubdelete AND NOT p.puballtables,
		ARRAY(SELECT prrelid FROM pg_publication_rel WHERE prpubid = p.oid) = ARRAY[$2::text::regclass::oid]
		FROM pg_publication p WHERE pubname = $1`, t.cfg.Name, t.cfg.Table).Scan(&inserts, &ours)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		_, err = conn.ExecContext(ctx, "CREATE PUBLICATION "+t.cfg.Name+" FOR TABLE "+t.cfg.Table+" WITH (publish = 'insert')")
		return err
	case err != nil:
		return err
	case !inserts || !ours:
		return fmt.Errorf("publication %q %w: it must publish the inserts into %s alone; choose another name, or drop it",
			t.cfg.Name, ErrForeign, t.cfg.Table)
	}
	return nil
}

func (t *Tail) prepareSlot(ctx context.Context, conn *sql.Conn) error {
	var plugin, database, status sql.NullString
	var here bool
	err := conn.QueryRowContext(ctx, `SELECT plugin, database, coalesce(database = current_database(), false), wal_status
		FROM pg_replication_slots WHERE slot_name = $1`, t.cfg.Name).Scan(&plugin, &database, &here, &status)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return err
	case plugin.String != "pgoutput" || !here:
		return fmt.Errorf("replication slot %q %w: it has the plugin %q and is of database %q; choose another name, or drop it",
			t.cfg.Name, ErrForeign, plugin.String, database.String)
	case status.String != "lost":
		return nil
	default:
		t.cfg.Logger.Warn("postbus: the replication slot fell too far behind (max_slot_wal_keep_size), and is made anew", "slot", t.cfg.Name)
		if _, err := conn.ExecContext(ctx, "SELECT pg_drop_replication_slot($1)", t.cfg.Name); err != nil {
			return err
		}
	}
	patience := time.AfterFunc(t.patience, func() {
		t.cfg.Logger.Warn("postbus: the server makes the replication slot once the transactions have ended that are open; see pg_stat_activity",
			"slot", t.cfg.Name)
	})
	defer patience.Stop()
	_, err = conn.ExecContext(ctx, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", t.cfg.Name)
	return err
}

// Slot is the state of the replication slot.
type Slot struct {
	// Retained is how many bytes of write-ahead log the server keeps for it.
	Retained int64
	// Reader is the id of the server's process that sends to its reader; 0 if there is none.
	Reader int
}

// Slot returns the state of the slot; the zero value if there is none.
func (t *Tail) Slot(ctx context.Context) (Slot, error) {
	var retained, reader sql.NullInt64
	err := t.db.QueryRowContext(ctx, `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint, active_pid
		FROM pg_replication_slots WHERE slot_name = $1`, t.cfg.Name).Scan(&retained, &reader)
	if errors.Is(err, sql.ErrNoRows) {
		return Slot{}, nil
	}
	return Slot{retained.Int64, int(reader.Int64)}, err
}

// Drop removes the slot and the publication, if they are there. It fails while a process reads the slot.
func (t *Tail) Drop(ctx context.Context) error {
	_, err := t.db.ExecContext(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", t.cfg.Name)
	if err == nil {
		_, err = t.db.ExecContext(ctx, "DROP PUBLICATION IF EXISTS "+t.cfg.Name)
	}
	return t.busy(err)
}

// End returns the present end of the write-ahead log: what commits later has a greater LSN.
func (t *Tail) End(ctx context.Context) (LSN, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var text string
	if err := t.db.QueryRowContext(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		return 0, err
	}
	return pglogrepl.ParseLSN(text)
}

// busy makes an error of a slot that somebody else reads match ErrBusy.
func (t *Tail) busy(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "55006" { // object_in_use
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

const (
	// senderTimeout is after how long the server gives up a reader that it does not hear, and lets another one begin.
	senderTimeout = 8 * time.Second
	// silence is after how long a reader gives up a server that it does not hear. Some say nothing while they work through
	// a large transaction.
	silence = 30 * time.Second
	// statusEvery is how often the reader says where it is, and asks for an answer.
	statusEvery = 2 * time.Second
	// slotPatience is after how long somebody is told what the slot waits for.
	slotPatience = 10 * time.Second
	// askTimeout bounds a question that the server answers at once, for its connection can have fallen silent.
	askTimeout = 15 * time.Second
)

// connect opens a connection for replication, to where db leads.
func (t *Tail) connect(ctx context.Context) (*pgconn.PgConn, error) {
	conn, err := t.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	var cfg *pgx.ConnConfig
	err = conn.Raw(func(c any) error {
		if pg, ok := c.(*stdlib.Conn); ok {
			cfg = pg.Conn().Config()
			return nil
		}
		return fmt.Errorf("the driver of the database is %T, and must be that of pgx", c)
	})
	if err = errors.Join(err, conn.Close()); err != nil {
		return nil, err
	}
	c := cfg.Config.Copy()
	c.RuntimeParams["replication"] = "database"
	c.RuntimeParams["bytea_output"] = "hex"
	c.RuntimeParams["wal_sender_timeout"] = fmt.Sprint(senderTimeout.Milliseconds())
	return pgconn.ConnectConfig(ctx, c)
}
