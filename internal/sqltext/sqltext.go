// Package sqltext is what differs in the text of queries that are otherwise the same on each dialect.
package sqltext

import "github.com/postbus/postbus/store"

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
