package sqllog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/transport"
)

// unreachable is a database that nobody can connect to.
type unreachable struct{}

func (unreachable) Connect(context.Context) (driver.Conn, error) {
	return nil, errors.New("no connection")
}
func (unreachable) Driver() driver.Driver { return nil }

// slowSaves is a dialect that saves once the context of the first save has ended.
type slowSaves struct {
	Dialect
	first bool
	saved state
}

func (*slowSaves) Name() string             { return "test" }
func (*slowSaves) Now() string              { return "" }
func (*slowSaves) Bound(*Topic) string      { return "" }
func (*slowSaves) Bind(query string) string { return query }
func (*slowSaves) Prompt() bool             { return true }
func (*slowSaves) MaxPayload() int          { return 0 }

func (d *slowSaves) Save(ctx context.Context, _ Querier, s *Save) (bool, error) {
	if !d.first {
		d.first = true
		<-ctx.Done()
		return false, ctx.Err()
	}
	var err error
	d.saved, err = decodeState(s.State)
	return true, err
}

// TestCloseEndsWhatIsBeingSettled: what Close breaks off is written with what it gives back, and is no error to who settles.
func TestCloseEndsWhatIsBeingSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := sql.OpenDB(unreachable{})
		defer db.Close()
		d := &slowSaves{}
		l := New(db, d, Config{Lease: time.Hour, Poll: time.Hour, Partitions: 1})
		s := &Subscription{l: l, t: &Topic{Name: "t"}, group: "g", prefetch: 10, wake: make(chan struct{}, 1),
			ended: make(chan struct{}, 1), done: make(chan struct{})}
		s.ctx, s.cancel = context.WithCancel(t.Context())
		c := newConsumer(s, 0)
		s.consumers = []*consumer{c}
		w := newWindow(s.prefetch, &state{}, 0)
		for i := range int64(2) {
			w.add(&entry{pos: Pos{Off: i + 1}, prev: Pos{Off: i}, msg: &transport.Message{}})
			w.readPos = Pos{Off: i + 1}
		}
		w.promote()
		w.told(true)
		s.wg.Go(func() { c.consume(1, w, nil) })
		synctest.Wait()
		ds, err := s.Receive(t.Context(), 1)
		for err != nil { // that there is no connection
			ds, err = s.Receive(t.Context(), 1)
		}
		settled := make(chan error, 1)
		go func() {
			settled <- s.Settle(t.Context(), []transport.Settlement{{Tag: ds[0].Tag, Outcome: transport.Ack}})
		}()
		time.Sleep(10 * time.Second) // what looks for messages fails, and then it all pauses
		synctest.Wait()
		if !d.first {
			t.Fatal("nothing is being saved")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-settled; err != nil {
			t.Error(err)
		}
		if d.saved.prefix != (Pos{Off: 1}) {
			t.Errorf("saved %+v", d.saved)
		}
	})
}
