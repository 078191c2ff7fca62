// Package quarantine keeps messages that could not be handled until somebody decides about them: it lists them, groups
// those that failed alike, shows them with every byte, lets them be edited, and replays them to the group that failed.
//
//	q, err := quarantine.Open(ctx, "sqlite:quarantine.db", quarantine.Config{Transport: t}) // or New, in a *store.DB
//	bus.New(bus.Config{Transport: t, Middleware: middleware.Standard(middleware.StandardConfig{Quarantine: q})})
//
//	kinds, err := q.Fingerprints(ctx, quarantine.Filter{}, 20)             // what is wrong, the most frequent first
//	entries, next, err := q.List(ctx, quarantine.Filter{Group: "billing"}, quarantine.Page{})
//	record, err := q.Show(ctx, entries[0].ID)
//	result, err := q.Replay(ctx, quarantine.Filter{Fingerprint: kinds[0].Fingerprint}, quarantine.ReplayOptions{Rate: 100})
//
// # Entries
//
// There is one entry for a message, a topic and a group. It has the message as it came, the chain of the last error, the
// stack if that was a panic, and the history of the failures that brought it here; those before, after which it was
// delivered again, are in the log alone. A message that fails again after a replay returns to its entry.
//
// # Fingerprints
//
// Failures are alike if group, event and the innermost error are: that of which quoted values, UUIDs, hexadecimal and
// other numbers were replaced by "#". `no row 17 in "orders"` and `no row 4711 in "orders"` are one kind.
//
// # Parked keys
//
// With Config.ParkKeys later messages of a key wait in the database behind the one that is in quarantine, in their order.
// The key is parked by the commit that keeps the message, before that is acknowledged. When the first of a line was
// handled, or is discarded, the next is published; it is again the first until it was handled. One that fails again stops
// its line. A message that is delayed for a retry is overtaken before it comes to quarantine: see
// bus.GroupConfig.KeepOrder. The order holds as far as the transport keeps it.
//
// # Without a database
//
// A Topic publishes what cannot be handled to a topic. It can only be read.
//
// # What is stored as it came
//
// Errors and messages can hold control characters, which do harm on a terminal. They are kept and returned as they came,
// and who prints them escapes them, as strconv.Quote does. What is not UTF-8 in the text of an error becomes U+FFFD.
package quarantine
