// Package sqltext is what differs in the text of queries that are otherwise the same on each dialect.
package sqltext

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/postbus/postbus/store"
)

// Bind is that of the dialect.
func Bind(d store.Dialect, query string) string { return d.Bind(query) }

// Now is an expression for the milliseconds since 1970 by the database's clock.
func Now(d store.Dialect) string {
	switch d {
	case store.Postgres:
		return "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
	case store.MySQL:
		return "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000)"
	}
	return "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
}

// longest is the longest text that Fit keeps as it is; all ids of Postbus are shorter.
const longest = 200

// Fit fits any text into a column of 255 bytes; two texts stay two, and UTF-8 stays UTF-8.
func Fit(s string) string {
	if len(s) <= longest {
		return s
	}
	h := sha256.Sum256([]byte(s))
	return strings.ToValidUTF8(s[:longest-2*len(h)], "") + hex.EncodeToString(h[:])
}
