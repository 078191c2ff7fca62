package mysql

// Crash ends t as the death of its process would.
func Crash(t *Transport) { t.log.Crash() }
