// Package outbox puts business rows, the events that they cause and the message that caused them into one commit.
//
//	box := outbox.New(db, outbox.Config{})
//	err := box.Prepare(ctx) // once, at the start: makes the tables
//
//	err = box.In(tx).Publish(ctx, Placed{OrderID: id}) // commits or rolls back with tx, a *sql.Tx or a pgx.Tx
//
//	outbox.Handle(b, "billing", box, func(ctx context.Context, tx *outbox.Tx, e Placed) error {
//		_, err := tx.ExecContext(ctx, `insert into charges …`) // handled once, although delivered twice
//		if err != nil {
//			return err
//		}
//		return tx.Publish(ctx, Paid{OrderID: e.OrderID})
//	})
//
// If the bus runs on the same database, Config.Transport says so, and events go straight to their topics. Otherwise they
// go to a topic of their own in the database, from where a [Forwarder] brings them to any transport:
//
//	f, err := outbox.NewForwarder(box, target, outbox.ForwarderConfig{})
//	err = f.Start(ctx) // in as many instances as you like: one works
//
// It asks for what is there, woken by commits and by notices of the database. On PostgreSQL it can read the write-ahead
// log instead: see ForwarderConfig.Tail. With Config.Layout [Debezium] a connector of Debezium can take its place.
//
// The driver of the database must be linked in, as for a transport of it:
//
//	import _ "github.com/postbus/postbus/transport/postgres"
package outbox
