package store_test

import (
	"fmt"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postbus/postbus/store"
)

func TestIsRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{&pgconn.PgError{Code: "23503"}, true},  // foreign key
		{&pgconn.PgError{Code: "P0001"}, true},  // raised by a trigger
		{&pgconn.PgError{Code: "57P01"}, false}, // the server stops
		{&pgconn.PgError{Code: "53100"}, false}, // disk full
		{&pgconn.PgError{Code: "40001"}, false}, // another try mends it
		{&mysql.MySQLError{Number: 1452, SQLState: [5]byte{'2', '3', '0', '0', '0'}}, true},
		{&mysql.MySQLError{Number: 1406, SQLState: [5]byte{'2', '2', '0', '0', '1'}}, true},
		{&mysql.MySQLError{Number: 1213, SQLState: [5]byte{'4', '0', '0', '0', '1'}}, false},
		{fmt.Errorf("connection reset"), false},
		{nil, false},
	} {
		if got := store.IsRefused(fmt.Errorf("commit: %w", tc.err)); got != tc.want {
			t.Errorf("%v: %v", tc.err, got)
		}
	}
}
