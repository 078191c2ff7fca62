package mysql

import (
	"context"
	"database/sql"
	"errors"

	"github.com/postbus/postbus/internal/sqllog"
)

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
