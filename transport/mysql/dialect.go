package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"time"

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

func newDialect(ctx context.Context, db *store.DB, _ bool) (sqllog.Dialect, error) {
	d := &dialect{db: db.SQL(), gaps: map[string]*gaps{}, topics: map[string]string{}}
	var version string
	var packet, increment int
	err := d.db.QueryRowContext(ctx, "SELECT VERSION(), @@max_allowed_packet, @@auto_increment_increment").Scan(&version, &packet, &increment)
	if err != nil {
		return nil, err
	}
	if increment != 1 {
		return nil, fmt.Errorf("the server has auto_increment_increment=%d; offsets in the order of commits need one writer and 1", increment)
	}
	d.maria = strings.Contains(version, "MariaDB")
	d.maxPayload = min(packet, 64<<20) / 2
	return d, nil
}

func (d *dialect) Name() string { return "mysql" }

func (d *dialect) UpperCase() bool { return false }

func (d *dialect) MaxPayload() int { return d.maxPayload }

func (d *dialect) Bind(query string) string { return query }

func (d *dialect) SkipLocked() string { return "FOR UPDATE SKIP LOCKED" }

func (d *dialect) Quote(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }

func (d *dialect) Writing() func() { return func() {} }

func (d *dialect) Prompt() bool { return false } // a gap can be before it

func (d *dialect) Close() error { return nil }

// Now is free of the session's time zone and of its hours that come twice.
func (d *dialect) Now() string { return sqltext.Now(store.MySQL) }

func (d *dialect) InsertIgnore(q string) string {
	return strings.Replace(q, "INSERT INTO", "INSERT IGNORE INTO", 1)
}

func (d *dialect) Bound(t *sqllog.Topic) string {
	return "GREATEST((SELECT COALESCE(MAX(`offset`), 0) FROM " + d.Quote(t.Messages) + "), (SELECT COALESCE(MAX(pos_off), 0) FROM postbus_later WHERE topic = ?))"
}

func (d *dialect) Within(p sqllog.Pos, bound int64) bool { return p.Off <= bound }

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

// heads asks for many tables in one query, each of which costs a look at the end of an index. Where one of them is gone,
// each is asked for alone.
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
		err := d.headsOf(ctx, heads, parts[first:last], args[max(0, first-1):last-1])
		if isNumber(err, errNoSuchTable) {
			err = nil
			for i := first; i < last && err == nil; i++ {
				if err = d.headsOf(ctx, heads, parts[i:i+1], args[max(0, i-1):i]); isNumber(err, errNoSuchTable) {
					err = nil
				}
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return heads, nil
}

// headsOf asks for the heads of some tables.
func (d *dialect) headsOf(ctx context.Context, heads map[string]int64, parts []string, args []any) error {
	rows, err := d.db.QueryContext(ctx, strings.Join(parts, " UNION ALL "), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var topic string
		var head sql.NullInt64
		if err := rows.Scan(&topic, &head); err != nil {
			return err
		}
		heads[topic] = head.Int64
	}
	return rows.Err()
}

func (d *dialect) Notify(context.Context, []string) error { return nil }
