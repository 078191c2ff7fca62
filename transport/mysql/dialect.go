package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	gomysql "github.com/go-sql-driver/mysql"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/internal/sqltext"
	"github.com/postbus/postbus/store"
)

// dialect is MySQL and MariaDB. Offsets are given at the insert and not at the commit; gaps tells what Read does.
type dialect struct {
	db         *sql.DB
	maria      bool
	maxPayload int

	mu   sync.Mutex
	gaps map[string]*gaps // by table

	topics map[string]string // by table, those in use
}

func newDialect(ctx context.Context, db *store.DB) (sqllog.Dialect, error) {
	if db.Dialect() != store.MySQL {
		return nil, fmt.Errorf("mysql: the database is of dialect %s", db.Dialect())
	}
	d := &dialect{db: db.SQL(), gaps: map[string]*gaps{}, topics: map[string]string{}}
	var version string
	var packet, increment int
	err := d.db.QueryRowContext(ctx, "SELECT VERSION(), @@max_allowed_packet, @@auto_increment_increment").Scan(&version, &packet, &increment)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	if increment != 1 {
		return nil, fmt.Errorf("mysql: the server has auto_increment_increment=%d; offsets in the order of commits need one writer and 1", increment)
	}
	d.maria = strings.Contains(version, "MariaDB")
	d.maxPayload = min(packet, 64<<20) / 2
	return d, nil
}

func (d *dialect) Name() string             { return "mysql" }
func (d *dialect) UpperCase() bool          { return false }
func (d *dialect) MaxPayload() int          { return d.maxPayload }
func (d *dialect) Bind(query string) string { return query }
func (d *dialect) SkipLocked() string       { return "FOR UPDATE SKIP LOCKED" }
func (d *dialect) Quote(s string) string    { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }
func (d *dialect) Writing() func()          { return func() {} }
func (d *dialect) Prompt() bool             { return false } // a gap can be before it
func (d *dialect) Close() error             { return nil }

// Now is free of the session's time zone and of its hours that come twice.
func (d *dialect) Now() string { return sqltext.Now(store.MySQL) }

func (d *dialect) InsertIgnore(q string) string {
	return strings.Replace(q, "INSERT INTO", "INSERT IGNORE INTO", 1)
}

// Numbers of server errors.
const (
	errDeadlock      = 1213
	errLockTimeout   = 1205
	errShutdown      = 1053
	errTooLong       = 1406
	errWrongValue    = 1366
	errOutOfRange    = 1264
	errInvalidJSON   = 3140
	errCheckFailed   = 4025
	errJSONCharset   = 3144
	errLockNowait    = 3572
	errPacketTooBig  = 1153
	errQueryAborted  = 1317
	errNoSuchTable   = 1146
	errBadField      = 1054
	errConnectionCut = 1927
)

func (d *dialect) Class(err error) sqllog.Class {
	var e *gomysql.MySQLError
	var n *net.OpError
	switch {
	case errors.As(err, &e):
		switch e.Number {
		case errTooLong, errWrongValue, errOutOfRange, errInvalidJSON, errCheckFailed, errJSONCharset, errPacketTooBig:
			return sqllog.BadData
		case errShutdown, errQueryAborted, errConnectionCut:
			return sqllog.Unknown
		}
		return sqllog.Refused
	case errors.Is(err, driver.ErrBadConn), errors.As(err, &n) && n.Op == "dial":
		return sqllog.NotSent
	}
	return sqllog.Unknown
}

func isNumber(err error, numbers ...uint16) bool {
	var e *gomysql.MySQLError
	if !errors.As(err, &e) {
		return false
	}
	for _, n := range numbers {
		if e.Number == n {
			return true
		}
	}
	return false
}

// Prepare makes the tables as watermill-sql does.
func (d *dialect) Prepare(ctx context.Context, t *sqllog.Topic, json bool) error {
	found, err := d.probe(ctx, t)
	if err == nil && !found {
		err = d.create(ctx, t, json)
	}
	if err == nil {
		d.mu.Lock()
		d.topics[t.Messages] = t.Name
		d.mu.Unlock()
	}
	return err
}

func (d *dialect) create(ctx context.Context, t *sqllog.Topic, json bool) error {
	kind := "JSON"
	if !json {
		kind = "LONGBLOB"
	}
	messages := wsql.DefaultMySQLSchema{
		GenerateMessagesTableName: func(string) string { return d.Quote(t.Messages) },
		GeneratePayloadType:       func(string) string { return kind },
	}
	offsets := wsql.DefaultMySQLOffsetsAdapter{GenerateMessagesOffsetsTableName: func(string) string { return d.Quote(t.Offsets) }}
	a, err := messages.SchemaInitializingQueries(wsql.SchemaInitializingQueriesParams{Topic: t.Name})
	if err != nil {
		return err
	}
	b, err := offsets.SchemaInitializingQueries(wsql.OffsetsSchemaInitializingQueriesParams{Topic: t.Name})
	if err != nil {
		return err
	}
	for _, q := range append(a, b...) {
		if _, err := d.db.ExecContext(ctx, q.Query, q.Args...); err != nil {
			return fmt.Errorf("make tables: %w", err)
		}
	}
	_, err = d.db.ExecContext(ctx, "INSERT IGNORE INTO postbus_topics (topic, messages, offsets) VALUES (?, ?, ?)", t.Name, t.Messages, t.Offsets)
	if err != nil {
		return err
	}
	if found, err := d.probe(ctx, t); err != nil || !found {
		return fmt.Errorf("table %s was made and is not found: %w", t.Messages, err)
	}
	return nil
}

// probe reports whether the tables are there; it is an error if they are and are not watermill-sql's.
func (d *dialect) probe(ctx context.Context, t *sqllog.Topic) (bool, error) {
	found := 0
	for _, table := range []struct {
		name    string
		columns string
	}{
		{t.Messages, "`offset`, `uuid`, `created_at`, `payload`, `metadata`"},
		{t.Offsets, "consumer_group, offset_acked, offset_consumed"},
	} {
		rows, err := d.db.QueryContext(ctx, "SELECT "+table.columns+" FROM "+d.Quote(table.name)+" WHERE 1 = 0")
		if isNumber(err, errNoSuchTable) {
			continue
		}
		if isNumber(err, errBadField) {
			err = fmt.Errorf("table %q %w: %w", table.name, sqllog.ErrForeignTable, err)
		}
		if err != nil {
			return false, err
		}
		_ = rows.Close()
		found++
	}
	if found < 2 {
		return false, nil
	}
	var kind, check string
	err := d.db.QueryRowContext(ctx, "SELECT data_type, extra FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? AND column_name = 'payload'",
		t.Messages).Scan(&kind, &check)
	switch strings.ToLower(kind) {
	case "json", "longtext": // MariaDB's JSON is text with a check
		t.JSON = true
	}
	return err == nil, err
}

// Append retries where InnoDB broke a deadlock: nothing was written then.
func (d *dialect) Append(ctx context.Context, b *sqllog.Batch) (err error) {
	for range 5 {
		if err = d.appendOnce(ctx, b); !isNumber(err, errDeadlock) {
			return err
		}
	}
	return err
}

func (d *dialect) appendOnce(ctx context.Context, b *sqllog.Batch) error {
	if len(b.Steps) == 1 && len(b.Steps[0].Later) == 0 {
		if q, args, rest := d.insert(&b.Steps[0].Rows, 0); rest == len(b.Steps[0].UUID) {
			_, err := d.db.ExecContext(ctx, q, args...)
			return err
		}
	}
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, s := range b.Steps {
		if err := d.AppendTx(ctx, tx, s); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (d *dialect) AppendTx(ctx context.Context, tx store.Execer, r *sqllog.Step) error {
	if len(r.Later) > 0 {
		if r.Placed {
			if err := d.place(ctx, tx, r); err != nil {
				return err
			}
		}
		return sqllog.InsertLater(ctx, tx, d, r.Later)
	}
	for i := 0; i < len(r.UUID); {
		q, args, next := d.insert(&r.Rows, i)
		if _, err := tx.ExecContext(ctx, q, args...); err != nil {
			return err
		}
		i = next
	}
	return nil
}

// place takes offsets for rows that are not in the log. To readers they are gaps, which they ask postbus_later about.
func (d *dialect) place(ctx context.Context, tx store.Execer, s *sqllog.Step) error {
	messages := d.Quote(s.Topic.Messages)
	for i := range s.Later {
		res, err := tx.ExecContext(ctx, "INSERT INTO "+messages+" (`uuid`) VALUES ('')")
		if err != nil {
			return err
		}
		if s.Later[i].Pos.Off, err = res.LastInsertId(); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+messages+" WHERE `offset` = ?", s.Later[i].Pos.Off); err != nil {
			return err
		}
	}
	return nil
}

func (d *dialect) Bound(t *sqllog.Topic) string {
	return "GREATEST((SELECT COALESCE(MAX(`offset`), 0) FROM " + d.Quote(t.Messages) + "), (SELECT COALESCE(MAX(pos_off), 0) FROM postbus_later WHERE topic = ?))"
}

func (d *dialect) Within(p sqllog.Pos, bound int64) bool { return p.Off <= bound }

// insert makes a statement of as many rows as a packet takes well, from first on, and returns the row after them.
func (d *dialect) insert(r *sqllog.Rows, first int) (string, []any, int) {
	const most = 1000
	i, bytes := first, 0
	var args []any
	for ; i < len(r.UUID) && i-first < most; i++ {
		if bytes += len(r.Payload[i]) + len(r.Metadata[i]); i > first && bytes > d.maxPayload/2 {
			break
		}
		var payload any
		switch p := r.Payload[i]; {
		case p == nil:
		case r.Topic.JSON: // bytes would be of the character set "binary", which JSON is not
			payload = string(p)
		default:
			payload = p
		}
		args = append(args, r.UUID[i], payload, r.Metadata[i])
	}
	return "INSERT INTO " + d.Quote(r.Topic.Messages) + " (`uuid`, `payload`, `metadata`) VALUES " +
		strings.TrimSuffix(strings.Repeat("(?,?,?),", i-first), ","), args, i
}

func (d *dialect) Offset(ctx context.Context, q sqllog.Querier, t *sqllog.Topic, consumer string) (p sqllog.Pos, found bool, err error) {
	var off sql.NullInt64
	err = q.QueryRowContext(ctx, "SELECT offset_acked FROM "+d.Quote(t.Offsets)+" WHERE consumer_group = ?", consumer).Scan(&off)
	if errors.Is(err, sql.ErrNoRows) {
		return p, false, nil
	}
	p.Off = off.Int64
	return p, err == nil, err
}

func (d *dialect) CreateOffset(ctx context.Context, q sqllog.Querier, t *sqllog.Topic, consumer string, at sqllog.Pos) error {
	_, err := q.ExecContext(ctx, "INSERT IGNORE INTO "+d.Quote(t.Offsets)+" (consumer_group, offset_acked, offset_consumed) VALUES (?, ?, ?)",
		consumer, at.Off, at.Off)
	return err
}

func (d *dialect) LowestOffset(ctx context.Context, t *sqllog.Topic) (sqllog.Pos, bool, error) {
	var least sql.NullInt64
	err := d.db.QueryRowContext(ctx, "SELECT MIN(COALESCE(offset_acked, 0)) FROM "+d.Quote(t.Offsets)).Scan(&least)
	return sqllog.Pos{Off: least.Int64}, least.Valid, err
}

func (d *dialect) Save(ctx context.Context, q sqllog.Querier, s *sqllog.Save) (bool, error) {
	owner := s.Owner
	if s.Lease == 0 {
		owner = ""
	}
	res, err := q.ExecContext(ctx, "UPDATE postbus_groups g JOIN "+d.Quote(s.Topic.Offsets)+` o ON o.consumer_group = ?
		SET g.state = ?, g.owner = ?, g.expires_ms = `+d.Now()+` + ?, o.offset_acked = ?, o.offset_consumed = ?
		WHERE g.topic = ? AND g.grp = ? AND g.part = ? AND g.token = ?`,
		s.Consumer, s.State, owner, s.Lease.Milliseconds(), s.Offset.Off, s.Offset.Off, s.Topic.Name, s.Group, s.Part, s.Token)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

func (d *dialect) DeleteThrough(ctx context.Context, t *sqllog.Topic, last sqllog.Pos, cutoff time.Time, limit int) (int, error) {
	var first, young, end sql.NullInt64
	err := d.db.QueryRowContext(ctx, "SELECT MIN(o), MIN(CASE WHEN c >= ? THEN o END), MAX(o) FROM (SELECT `offset` AS o, UNIX_TIMESTAMP(created_at) AS c FROM "+
		d.Quote(t.Messages)+" WHERE `offset` <= ? ORDER BY `offset` LIMIT ?) old", float64(cutoff.UnixMilli())/1000, last.Off, limit).Scan(&first, &young, &end)
	if err != nil || !first.Valid {
		return 0, err
	}
	through := end.Int64
	if young.Valid {
		through = young.Int64 - 1
	}
	if through < first.Int64 {
		return 0, nil
	}
	res, err := d.db.ExecContext(ctx, "DELETE FROM "+d.Quote(t.Messages)+" WHERE `offset` BETWEEN ? AND ?", first.Int64, through)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

func (d *dialect) Lag(ctx context.Context, t *sqllog.Topic, after sqllog.Pos, limit int) (int, time.Duration, error) {
	var n int
	var age sql.NullFloat64
	err := d.db.QueryRowContext(ctx, "SELECT COUNT(*), UNIX_TIMESTAMP() - MIN(c) FROM (SELECT UNIX_TIMESTAMP(created_at) AS c FROM "+
		d.Quote(t.Messages)+" WHERE `offset` > ? LIMIT ?) m", after.Off, limit).Scan(&n, &age)
	if n > 0 { // whole seconds: a message is not of age zero
		return n, max(time.Millisecond, time.Duration(age.Float64*float64(time.Second))), err
	}
	return 0, 0, err
}

// Listen watches the last offset of each topic.
func (d *dialect) Listen(ctx context.Context, every time.Duration, ready func(), heard func(string)) error {
	return sqllog.Watch(ctx, every, d.heads, ready, heard)
}

// Watches implements sqllog.Dialect.
func (d *dialect) Watches() bool { return true }

// heads asks for many tables in one query, each of which costs a look at the end of an index.
func (d *dialect) heads(ctx context.Context) (map[string]int64, error) {
	d.mu.Lock()
	parts := []string{"SELECT '', MAX(id) FROM postbus_later"}
	args := []any{}
	for table, topic := range d.topics {
		parts = append(parts, "SELECT ?, MAX(`offset`) FROM "+d.Quote(table))
		args = append(args, topic)
	}
	d.mu.Unlock()
	heads := map[string]int64{}
	const atOnce = 50
	for first := 0; first < len(parts); first += atOnce {
		last := min(first+atOnce, len(parts))
		rows, err := d.db.QueryContext(ctx, strings.Join(parts[first:last], " UNION ALL "), args[max(0, first-1):last-1]...)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var topic string
			var head sql.NullInt64
			if err := rows.Scan(&topic, &head); err != nil {
				return nil, errors.Join(err, rows.Close())
			}
			heads[topic] = head.Int64
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, err
		}
	}
	return heads, nil
}

func (d *dialect) Notify(context.Context, []string) error { return nil }
