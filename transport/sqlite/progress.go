package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/postbus/postbus/internal/sqllog"
)

func (d *dialect) Offset(ctx context.Context, q sqllog.Querier, t *sqllog.Topic, consumer string) (p sqllog.Pos, found bool, err error) {
	err = q.QueryRowContext(ctx, "SELECT offset_acked FROM "+d.Quote(t.Offsets)+" WHERE consumer_group = ?", consumer).Scan(&p.Off)
	if errors.Is(err, sql.ErrNoRows) {
		return p, false, nil
	}
	return p, err == nil, err
}

func (d *dialect) CreateOffset(ctx context.Context, q sqllog.Querier, t *sqllog.Topic, consumer string, at sqllog.Pos) error {
	_, err := q.ExecContext(ctx, "INSERT INTO "+d.Quote(t.Offsets)+" (consumer_group, offset_acked, locked_until) VALUES (?, ?, 0) ON CONFLICT DO NOTHING",
		consumer, at.Off)
	return err
}

func (d *dialect) LowestOffset(ctx context.Context, t *sqllog.Topic) (sqllog.Pos, bool, error) {
	var least sql.NullInt64
	err := d.db.QueryRowContext(ctx, "SELECT MIN(offset_acked) FROM "+d.Quote(t.Offsets)).Scan(&least)
	return sqllog.Pos{Off: least.Int64}, least.Valid, err
}

func (d *dialect) Save(ctx context.Context, q sqllog.Querier, s *sqllog.Save) (bool, error) {
	if db, ok := q.(*sql.DB); ok {
		d.writing.Lock()
		defer d.writing.Unlock()
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return false, err
		}
		defer func() { _ = tx.Rollback() }()
		if ok, err := d.Save(ctx, tx, s); err != nil || !ok {
			return ok, err
		}
		return true, tx.Commit()
	}
	owner := s.Owner
	if s.Lease == 0 {
		owner = ""
	}
	res, err := q.ExecContext(ctx, "UPDATE postbus_groups SET state = ?, owner = ?, expires_ms = "+d.Now()+
		" + ? WHERE topic = ? AND grp = ? AND part = ? AND token = ?",
		s.State, owner, s.Lease.Milliseconds(), s.Topic.Name, s.Group, s.Part, s.Token)
	if err != nil {
		return false, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	_, err = q.ExecContext(ctx, "UPDATE "+d.Quote(s.Topic.Offsets)+" SET offset_acked = ? WHERE consumer_group = ?", s.Offset.Off, s.Consumer)
	return true, err
}
