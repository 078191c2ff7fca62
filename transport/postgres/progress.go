package postgres

import (
	"context"
	"database/sql"
	"errors"
	"strconv"

	"github.com/postbus/postbus/internal/sqllog"
)

func (d *dialect) Offset(ctx context.Context, q sqllog.Querier, t *sqllog.Topic, consumer string) (p sqllog.Pos, found bool, err error) {
	var off sql.NullInt64
	err = q.QueryRowContext(ctx, "SELECT last_processed_transaction_id::text::bigint, offset_acked FROM "+d.Quote(t.Offsets)+
		" WHERE consumer_group = $1", consumer).Scan(&p.Tx, &off)
	if errors.Is(err, sql.ErrNoRows) {
		return p, false, nil
	}
	p.Off = off.Int64
	return p, err == nil, err
}

func (d *dialect) CreateOffset(ctx context.Context, q sqllog.Querier, t *sqllog.Topic, consumer string, at sqllog.Pos) error {
	_, err := q.ExecContext(ctx, "INSERT INTO "+d.Quote(t.Offsets)+
		" (consumer_group, offset_acked, last_processed_transaction_id) VALUES ($1, $2, $3::text::xid8) ON CONFLICT DO NOTHING",
		consumer, at.Off, strconv.FormatUint(at.Tx, 10))
	return err
}

func (d *dialect) LowestOffset(ctx context.Context, t *sqllog.Topic) (p sqllog.Pos, found bool, err error) {
	err = d.db.QueryRowContext(ctx, "SELECT last_processed_transaction_id::text::bigint, coalesce(offset_acked, 0) FROM "+d.Quote(t.Offsets)+
		" ORDER BY last_processed_transaction_id, offset_acked NULLS FIRST LIMIT 1").Scan(&p.Tx, &p.Off)
	if errors.Is(err, sql.ErrNoRows) {
		return p, false, nil
	}
	return p, err == nil, err
}

func (d *dialect) Save(ctx context.Context, q sqllog.Querier, s *sqllog.Save) (bool, error) {
	owner := s.Owner
	if s.Lease == 0 {
		owner = ""
	}
	res, err := q.ExecContext(ctx, `WITH l AS (
			UPDATE postbus_groups SET state = $1, owner = $2, expires_ms = `+d.Now()+` + $3
			WHERE topic = $4 AND grp = $5 AND part = $6 AND token = $7 RETURNING 1)
		UPDATE `+d.Quote(s.Topic.Offsets)+` SET offset_acked = $8, last_processed_transaction_id = $9::text::xid8
		WHERE consumer_group = $10 AND EXISTS (SELECT 1 FROM l)`,
		s.State, owner, s.Lease.Milliseconds(), s.Topic.Name, s.Group, s.Part, s.Token,
		s.Offset.Off, strconv.FormatUint(s.Offset.Tx, 10), s.Consumer)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}
