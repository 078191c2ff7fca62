// Package tables has what the modules share of SQL. Each keeps its books in tables of its own, of the shop's database,
// which is PostgreSQL, MySQL, MariaDB or SQLite: the statements are those that all of them understand, and arguments are
// question marks.
package tables

import (
	"context"
	"database/sql"
	"fmt"

	"go.uber.org/fx"

	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
)

// Create makes tables, unless they are there, when the application starts.
func Create(lc fx.Lifecycle, db *store.DB, statements ...string) {
	lc.Append(fx.StartHook(func(ctx context.Context) error {
		for _, s := range statements {
			if _, err := db.SQL().ExecContext(ctx, s); err != nil {
				return fmt.Errorf("tables: %w", err)
			}
		}
		return nil
	}))
}

// Exec runs a statement and returns how many rows it has met.
func Exec(ctx context.Context, tx *outbox.Tx, statement string, args ...any) (rows int64, err error) {
	res, err := tx.ExecContext(ctx, tx.Dialect().Bind(statement), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Row asks for one row.
func Row(ctx context.Context, tx *outbox.Tx, query string, args ...any) *sql.Row {
	return tx.QueryRowContext(ctx, tx.Dialect().Bind(query), args...)
}

// Insert puts values into a table, unless a row with the same primary key is there. It reports whether it did.
func Insert(ctx context.Context, tx *outbox.Tx, into string, values ...any) (bool, error) {
	statement, marks := "insert into ", " values (?"
	if tx.Dialect() == store.MySQL {
		statement = "insert ignore into "
	}
	for range values[1:] {
		marks += ", ?"
	}
	statement += into + marks + ")"
	if tx.Dialect() != store.MySQL {
		statement += " on conflict do nothing"
	}
	rows, err := Exec(ctx, tx, statement, values...)
	return rows > 0, err
}
