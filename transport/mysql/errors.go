package mysql

import (
	"database/sql/driver"
	"errors"
	"net"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/postbus/postbus/internal/sqllog"
)

// Numbers of server errors.
const (
	errDeadlock      = 1213
	errLockTimeout   = 1205
	errShutdown      = 1053
	errTooLong       = 1406
	errWrongValue    = 1366
	errOutOfRange    = 1264
	errInvalidJSON   = 3140
	errCheckFailed   = 4025
	errJSONCharset   = 3144
	errJSONTooBig    = 3150
	errJSONTooDeep   = 3157
	errJSONDepth     = 4040 // of MariaDB
	errLockNowait    = 3572
	errPacketTooBig  = 1153
	errQueryAborted  = 1317
	errNoSuchTable   = 1146
	errBadField      = 1054
	errConnectionCut = 1927
)

func (d *dialect) Class(err error) sqllog.Class {
	var e *gomysql.MySQLError
	var n *net.OpError
	switch {
	case errors.As(err, &e):
		switch e.Number {
		case errTooLong, errWrongValue, errOutOfRange, errInvalidJSON, errCheckFailed, errJSONCharset, errJSONTooBig, errJSONTooDeep, errJSONDepth, errPacketTooBig:
			return sqllog.BadData
		case errShutdown, errQueryAborted, errConnectionCut:
			return sqllog.Unknown
		}
		return sqllog.Refused
	case errors.Is(err, driver.ErrBadConn), errors.As(err, &n) && n.Op == "dial":
		return sqllog.NotSent
	}
	return sqllog.Unknown
}

func isNumber(err error, numbers ...uint16) bool {
	var e *gomysql.MySQLError
	if !errors.As(err, &e) {
		return false
	}
	for _, n := range numbers {
		if e.Number == n {
			return true
		}
	}
	return false
}
