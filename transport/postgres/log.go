package postgres

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/store"
)

// Append writes a batch in one round trip: the statements of a pipeline are one transaction.
//
// The connection's own deadline bounds it. For a context that can end, pgx would start a goroutine with each statement,
// and with it wake a processor; publishers of single messages would feel that.
func (d *dialect) Append(ctx context.Context, b *sqllog.Batch) error {
	return d.conn(ctx, func(c *pgx.Conn) error {
		if deadline, ok := ctx.Deadline(); ok {
			socket := c.PgConn().Conn()
			if err := socket.SetDeadline(deadline); err != nil {
				return err
			}
			defer func() { _ = socket.SetDeadline(time.Time{}) }()
			ctx = context.WithoutCancel(ctx)
		}
		if len(b.Steps) == 1 && len(b.Steps[0].UUID) >= copyFrom {
			return d.copyRows(ctx, c, &b.Steps[0].Rows)
		}
		if len(b.Steps) == 1 {
			q, args := d.insert(b.Steps[0])
			_, err := c.Exec(ctx, q, args...)
			return err
		}
		var batch pgx.Batch
		for _, s := range b.Steps {
			q, args := d.insert(s)
			batch.Queue(q, args...)
		}
		return c.SendBatch(ctx, &batch).Close()
	})
}

// insertLater places rows by the same transaction id and sequence as those of the log.
func (d *dialect) insertLater(s *sqllog.Step) (string, []any) {
	rows, place := s.Later, "0, 0"
	args := []any{}
	if s.Placed {
		place = "pg_current_xact_id()::text::bigint, nextval(pg_get_serial_sequence($8, 'offset'))"
		args = append(args, d.Quote(s.Topic.Messages))
	}
	n := len(rows)
	topics, groups, uuids, metadata := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	dues, hashes, payloads := make([]int64, n), make([]int32, n), make([][]byte, n)
	for i := range rows {
		r := &rows[i]
		topics[i], groups[i], uuids[i], metadata[i], payloads[i] = r.Topic, r.Group, r.UUID, r.Metadata, r.Payload
		dues[i], hashes[i] = r.Due, int32(r.Hash)
	}
	return `INSERT INTO postbus_later (topic, grp, due_ms, hash, uuid, metadata, payload, pos_tx, pos_off)
		SELECT r.*, ` + place + ` FROM unnest($1::text[], $2::text[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::bytea[]) AS r`,
		append([]any{topics, groups, dues, hashes, uuids, metadata, payloads}, args...)
}

// insert writes created_at in UTC, whatever the server's time zone.
func (d *dialect) insert(r *sqllog.Step) (string, []any) {
	if len(r.Later) > 0 {
		return d.insertLater(r)
	}
	head := "INSERT INTO " + d.Quote(r.Topic.Messages) + " (uuid, created_at, metadata, payload, transaction_id) "
	if len(r.UUID) == 1 {
		if r.Topic.JSON {
			return head + "VALUES ($1, clock_timestamp() AT TIME ZONE 'UTC', $2::text::json, $3::text::json, pg_current_xact_id())",
				[]any{r.UUID[0], r.Metadata[0], text(r.Payload[0])}
		}
		return head + "VALUES ($1, clock_timestamp() AT TIME ZONE 'UTC', $2::text::json, $3::bytea, pg_current_xact_id())",
			[]any{r.UUID[0], r.Metadata[0], r.Payload[0]}
	}
	// Set-returning functions in the list of columns are faster than in FROM, where the server first stores all rows.
	kind, payload := "bytea", any(r.Payload)
	if r.Topic.JSON {
		texts := make([]*string, len(r.Payload))
		for i, p := range r.Payload {
			texts[i] = text(p)
		}
		kind, payload = "json", texts
	}
	return head + `SELECT unnest($1::varchar[]), t.now, unnest($2::json[]), unnest($3::` + kind + `[]), t.id
		FROM (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS now, pg_current_xact_id() AS id OFFSET 0) t`, []any{r.UUID, r.Metadata, payload}
}

func text(p []byte) *string {
	if p == nil {
		return nil
	}
	s := string(p)
	return &s
}

// AppendTx writes rows within the caller's transaction.
func (d *dialect) AppendTx(ctx context.Context, tx store.Execer, r *sqllog.Step) error {
	q, args := d.insert(r)
	_, err := tx.ExecContext(ctx, q, args...)
	return err
}

// horizon is the oldest transaction that can still add rows.
const horizon = "pg_snapshot_xmin(pg_current_snapshot())"

func (d *dialect) Bound(*sqllog.Topic) string {
	return "CASE WHEN ?::text IS NOT NULL THEN " + horizon + "::text::bigint END"
}

func (d *dialect) Within(p sqllog.Pos, bound int64) bool { return p.Tx < uint64(bound) }

// Read reads by keyset: the condition on the pair uses the primary key, however long the backlog.
func (d *dialect) Read(ctx context.Context, t *sqllog.Topic, after sqllog.Pos, bound int64, limit int) ([]sqllog.Row, bool, error) {
	below := horizon
	args := []any{strconv.FormatUint(after.Tx, 10), after.Off, limit}
	if bound != sqllog.NoBound {
		below = "$4::text::xid8"
		args = append(args, strconv.FormatInt(bound, 10))
	}
	rows, err := d.rows(ctx, t, `(transaction_id, "offset") > ($1::text::xid8, $2) AND transaction_id < `+below+`
		ORDER BY transaction_id, "offset" LIMIT $3`, args...)
	return rows, len(rows) == limit, err
}

// Since reads beyond the horizon as well: a group that starts must not pass over what is about to be seen.
func (d *dialect) Since(ctx context.Context, t *sqllog.Topic, after sqllog.Pos, since time.Time, limit int) ([]sqllog.Row, error) {
	return d.rows(ctx, t, `(transaction_id, "offset") > ($1::text::xid8, $2) AND created_at >= ($3::timestamptz AT TIME ZONE 'UTC')
		ORDER BY transaction_id, "offset" LIMIT $4`, strconv.FormatUint(after.Tx, 10), after.Off, orEpoch(since), limit)
}

// orEpoch keeps the zero time within what a timestamp can hold.
func orEpoch(t time.Time) time.Time {
	if t.Year() < 1 || t.IsZero() {
		return time.Unix(0, 0)
	}
	return t
}

func (d *dialect) ReadAt(ctx context.Context, t *sqllog.Topic, at []sqllog.Pos) ([]sqllog.Row, error) {
	if len(at) == 0 {
		return nil, nil
	}
	txs, offs := make([]string, len(at)), make([]int64, len(at))
	for i, p := range at {
		txs[i], offs[i] = strconv.FormatUint(p.Tx, 10), p.Off
	}
	return d.rows(ctx, t, `(transaction_id, "offset") IN (SELECT x::xid8, o FROM unnest($1::text[], $2::bigint[]) AS p (x, o))
		ORDER BY transaction_id, "offset"`, txs, offs)
}

func (d *dialect) rows(ctx context.Context, t *sqllog.Topic, where string, args ...any) ([]sqllog.Row, error) {
	payload := "payload"
	if t.JSON {
		payload = "payload::text"
	}
	q := `SELECT transaction_id, "offset", uuid, ` + payload + `, metadata::text, created_at FROM ` + d.Quote(t.Messages) + " WHERE " + where
	var out []sqllog.Row
	err := d.conn(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, q, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r sqllog.Row
			var metadata, payload []byte
			var created time.Time
			if err := rows.Scan(&r.Pos.Tx, &r.Pos.Off, &r.UUID, &payload, &metadata, &created); err != nil {
				return err
			}
			r.Metadata, r.Payload, r.Created = metadata, payload, created
			out = append(out, r)
		}
		return rows.Err()
	})
	return out, err
}

func (d *dialect) Lag(ctx context.Context, t *sqllog.Topic, after sqllog.Pos, limit int) (int, time.Duration, error) {
	var n int
	var seconds sql.NullFloat64
	err := d.db.QueryRowContext(ctx, `SELECT count(*), extract(epoch FROM (clock_timestamp() AT TIME ZONE 'UTC') - min(created_at))::float8
		FROM (SELECT created_at FROM `+d.Quote(t.Messages)+` WHERE (transaction_id, "offset") > ($1::text::xid8, $2) LIMIT $3) m`,
		strconv.FormatUint(after.Tx, 10), after.Off, limit).Scan(&n, &seconds)
	return n, max(0, time.Duration(seconds.Float64*float64(time.Second))), err
}

// Stall finds the transaction at the horizon, if there are committed messages beyond it.
func (d *dialect) Stall(ctx context.Context, t *sqllog.Topic, after sqllog.Pos) (*sqllog.Stall, error) {
	var s sqllog.Stall
	var seconds sql.NullFloat64
	// Everyone may see in pg_locks who holds which transaction; the start of others' may be hidden, then the age of the
	// oldest message that waits stands for it.
	err := d.db.QueryRowContext(ctx, `WITH h AS (SELECT `+horizon+` AS x),
		late AS (SELECT created_at FROM `+d.Quote(t.Messages)+`, h
			WHERE transaction_id >= h.x AND (transaction_id, "offset") > ($1::text::xid8, $2) LIMIT 1)
		SELECT coalesce(l.pid, 0), extract(epoch FROM coalesce(clock_timestamp() - a.xact_start,
			(clock_timestamp() AT TIME ZONE 'UTC') - late.created_at))::float8
		FROM late, h
		LEFT JOIN pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid::text = mod(h.x::text::numeric, 4294967296)::text
		LEFT JOIN pg_stat_activity a ON a.pid = l.pid
		ORDER BY l.pid NULLS LAST LIMIT 1`, strconv.FormatUint(after.Tx, 10), after.Off).Scan(&s.PID, &seconds)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	s.Age = time.Duration(seconds.Float64 * float64(time.Second))
	return &s, err
}
