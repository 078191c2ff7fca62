package quarantine

import (
	"context"
	"database/sql"
	"strings"

	"github.com/postbus/postbus/store"
)

// bind writes "?" as the database wants arguments.
func (s *Store) bind(q string) string { return s.db.Dialect().Bind(q) }

func (s *Store) exec(ctx context.Context, on store.Execer, q string, args ...any) (int, error) {
	res, err := on.ExecContext(ctx, s.bind(q), args...)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// query calls scan for each row.
func (s *Store) query(ctx context.Context, on store.Querier, q string, args []any, scan func(row scanner) error) error {
	rows, err := on.QueryContext(ctx, s.bind(q), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

type scanner interface{ Scan(into ...any) error }

var (
	_ scanner = (*sql.Row)(nil)
	_ scanner = (*sql.Rows)(nil)
)

// forUpdate ends a query whose rows are to be locked. SQLite's transactions are alone.
func (s *Store) forUpdate(skipLocked bool) string {
	switch {
	case s.db.Dialect() == store.SQLite:
		return ""
	case skipLocked:
		return " FOR UPDATE SKIP LOCKED"
	}
	return " FOR UPDATE"
}

// marks is "?,?,?" for n arguments.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }

// tuples is "(?,?),(?,?)" for n rows of width columns.
func tuples(n, width int) string {
	return strings.TrimSuffix(strings.Repeat("("+marks(width)+"),", n), ",")
}

// anys makes arguments of a list.
func anys[T any](list []T) []any {
	args := make([]any, len(list))
	for i, v := range list {
		args[i] = v
	}
	return args
}
