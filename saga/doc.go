// Package saga leads long business transactions across modules to a good end, or undoes them, whatever crashes in between.
//
//	var Checkout = saga.Definition[Order]{
//		Name: "checkout", Version: 1,
//		Start: saga.StartOn(func(e orders.Placed) (key string, state Order) { … }),
//		Steps: []saga.Step[Order]{
//			{Name: "reserve", Do: reserve, Undo: release},
//			{Name: "charge", Do: requestCharge, Undo: refund, Timeout: 15 * time.Minute,
//				Await: saga.Replies(
//					saga.Continue(func(o *Order, e payments.Captured) error { … }),
//					saga.Abort(func(o *Order, e payments.Declined) error { … }))},
//			{Name: "ship", Do: ship, Pivot: true}, // past the pivot: forward only
//		},
//	}
//
//	o, err := saga.New(b, box, saga.Config{Sagas: []saga.Saga{Checkout}})
//	err = o.Start(ctx) // before b.Start
//
// # Transitions
//
// An instance is one row. A transition is one transaction that holds the lock of that row: it takes the message that
// caused it into the inbox, runs at most one step that reaches beyond the database, writes the new state, one row of the
// journal, and the events that go out. All of it commits, or none.
//
// A step whose Do or Undo calls anything beyond [Run] (another service, a file) may happen more often than it is
// committed: its process dies in between, and it is repeated with the same [Run.IdempotencyKey]. That it is about to
// happen is therefore committed before, so that a step that may have happened is undone, too. This costs a transaction
// for each step. A step that is Local promises to do nothing beyond Run; it vanishes with its transaction, and so any
// number of them share one, and one with the message that led to them.
//
// # What comes at a bad time
//
//   - A start for a key that has an instance, or a tombstone of one, changes nothing.
//   - A reply before its request was committed waits for the transaction of the request. One for a step that the
//     instance has not reached is kept until then. One without any instance comes again five times over about half a
//     minute, for the start may be on its way, and is then ignored. Where the chain of the bus puts into quarantine what
//     has failed fewer than six times, it is there before.
//   - A reply that comes twice, after its step's timeout, or after the end, changes nothing; unless the instance has
//     ended, its journal says so.
//   - A reply for the step because of which an instance is stuck has it go on.
//   - Two orchestrators, or two messages, for one instance at once: the second waits for the row, and finds what the
//     first made of it.
//   - A timeout is a time in the row. It is compared under the lock, with the step that is there then: a late one finds
//     its step gone.
//
// Nothing waits in memory: retries and timeouts are times in the row, and one poller of each process looks for those
// that are due, by the clock of the database. The attempt of a step that ends its process is known by the count of
// pickups in the row, which is committed before: after as many as the step has attempts, and three at least, it has
// failed for good.
//
// # People
//
// What cannot go on by itself is [Stuck], and waits for a person, who has the methods of [Orchestrator], or of [Operator]
// from another process, as the command postbus saga does.
package saga
