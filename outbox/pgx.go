package outbox

import (
	"context"
	"database/sql"
	"database/sql/driver"

	"github.com/jackc/pgx/v5"
)

// pgxTx is a transaction of pgx's as one of database/sql's, as far as the engine needs it.
type pgxTx struct{ tx pgx.Tx }

// ExecContext implements store.Execer.
func (t pgxTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	tag, err := t.tx.Exec(ctx, query, args...)
	return driver.RowsAffected(tag.RowsAffected()), err
}
