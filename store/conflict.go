package store

import (
	"errors"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// IsConflict reports whether err says that a transaction lost against another one and did nothing, so that it can be run
// again: a serialization failure, a deadlock, a lock that was not to be had in time.
func IsConflict(err error) bool {
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	var lite *sqlite.Error
	switch {
	case errors.As(err, &pg):
		return pg.Code == "40001" || pg.Code == "40P01" || pg.Code == "55P03"
	case errors.As(err, &my):
		return my.Number == 1213 || my.Number == 1205
	case errors.As(err, &lite):
		primary := lite.Code() & 0xff
		return primary == sqlite3.SQLITE_BUSY || primary == sqlite3.SQLITE_LOCKED
	}
	return false
}

// IsDuplicate reports whether err says that a row was to be written whose key another row has.
func IsDuplicate(err error) bool {
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	var lite *sqlite.Error
	switch {
	case errors.As(err, &pg):
		return pg.Code == "23505"
	case errors.As(err, &my):
		return my.Number == 1062
	case errors.As(err, &lite):
		return lite.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || lite.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
	}
	return false
}

// IsNoTable reports whether err says that a statement named a table that is not there.
func IsNoTable(err error) bool {
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	var lite *sqlite.Error
	switch {
	case errors.As(err, &pg):
		return pg.Code == "42P01"
	case errors.As(err, &my):
		return my.Number == 1146
	case errors.As(err, &lite): // which has no code for it
		return lite.Code() == sqlite3.SQLITE_ERROR && strings.Contains(lite.Error(), "no such table")
	}
	return false
}

// IsRefused reports whether err says that the database refused a statement or a commit for what it would write, by a
// constraint, a type or a trigger, so that the same would be refused again.
func IsRefused(err error) bool {
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	var lite *sqlite.Error
	switch {
	case errors.As(err, &pg) && len(pg.Code) == 5:
		return slices.Contains([]string{"09", "22", "23", "27", "44", "P0"}, pg.Code[:2])
	case errors.As(err, &my):
		return my.SQLState[0] == '2' && (my.SQLState[1] == '2' || my.SQLState[1] == '3') || my.Number == 1644 || my.Number == 4025
	case errors.As(err, &lite):
		return lite.Code()&0xff == sqlite3.SQLITE_CONSTRAINT
	}
	return false
}
