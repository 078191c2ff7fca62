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

// in is a condition that a column is one of a list, and its arguments. On PostgreSQL the list is one argument, so that the
// statement is the same, and prepared once, whatever its length.
func in[T any](s *Store, column string, list []T) (string, []any) {
	if s.db.Dialect() == store.Postgres {
		return column + " = ANY(?)", []any{list}
	}
	args := make([]any, len(list))
	for i, v := range list {
		args[i] = v
	}
	return column + " IN (" + marks(len(list)) + ")", args
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }

// table is rows to be inserted.
type table struct {
	name    string
	columns []column
	rows    int
}

// column has a value for each row, in one of its slices.
type column struct {
	name  string
	bytes [][]byte // nil is NULL
	ints  []int64
	texts []string
}

func (c *column) at(row int) any {
	switch {
	case c.ints != nil:
		return c.ints[row]
	case c.texts != nil:
		return c.texts[row]
	}
	return c.bytes[row]
}

// insert inserts rows; end is the end of the statement. On PostgreSQL each column is one argument, as in a list.
func (s *Store) insert(ctx context.Context, tx *sql.Tx, t *table, end string) error {
	var names, parts []string
	var args []any
	for i := range t.columns {
		names = append(names, t.columns[i].name)
	}
	into := "INSERT INTO " + t.name + " (" + strings.Join(names, ", ") + ") "
	if s.db.Dialect() == store.Postgres {
		for i := range t.columns {
			switch c := &t.columns[i]; {
			case c.ints != nil:
				parts, args = append(parts, "?::bigint[]"), append(args, c.ints)
			case c.texts != nil:
				parts, args = append(parts, "?::text[]"), append(args, c.texts)
			default:
				parts, args = append(parts, "?::bytea[]"), append(args, c.bytes)
			}
		}
		_, err := s.exec(ctx, tx, into+"SELECT * FROM unnest("+strings.Join(parts, ", ")+")"+end, args...)
		return err
	}
	const chunk = 64
	for from := 0; from < t.rows; from += chunk {
		n := min(chunk, t.rows-from)
		args = args[:0]
		for row := from; row < from+n; row++ {
			for i := range t.columns {
				args = append(args, t.columns[i].at(row))
			}
		}
		tuples := strings.TrimSuffix(strings.Repeat("("+marks(len(t.columns))+"),", n), ",")
		if _, err := s.exec(ctx, tx, into+"VALUES "+tuples+end, args...); err != nil {
			return err
		}
	}
	return nil
}
