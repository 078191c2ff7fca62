// Package database measures the transports in databases.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// server is a database that the contenders share.
type server struct {
	url    string
	db     *sql.DB
	filled map[string]bool // backlogs that are there
}

var serial atomic.Int64

func unique(prefix string) string { return prefix + strconv.FormatInt(serial.Add(1), 10) }

// open makes a database of its own on the server that the environment names.
func (s *server) open(ctx context.Context, variable string) (func() error, error) {
	url, db, done, err := Create(ctx, variable)
	if err != nil {
		return nil, err
	}
	s.url, s.db, s.filled = url, db.SQL(), map[string]bool{}
	s.db.SetMaxOpenConns(20)
	return done, nil
}

// Create makes a database on the server that a variable of the environment names, and returns its URL, a handle, and what
// undoes it.
func Create(ctx context.Context, variable string) (string, *store.DB, func() error, error) {
	base := os.Getenv(variable)
	if base == "" {
		return "", nil, nil, fmt.Errorf("%s is not set: see scripts/services env", variable)
	}
	admin, err := store.Open(ctx, base)
	if err != nil {
		return "", nil, nil, err
	}
	name := fmt.Sprintf("bench_%d", time.Now().UnixNano())
	if _, err := admin.SQL().ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return "", nil, nil, errors.Join(err, admin.Close())
	}
	u, err := url.Parse(base)
	if err != nil {
		return "", nil, nil, err
	}
	u.Path = "/" + name
	db, err := store.Open(ctx, u.String())
	if err != nil {
		return "", nil, nil, err
	}
	return u.String(), db, func() error {
		err := db.Close()
		_, dropped := admin.SQL().ExecContext(context.WithoutCancel(ctx), "DROP DATABASE "+name)
		return errors.Join(err, dropped, admin.Close())
	}, nil
}

const (
	publishers = 16
	payload    = `{"order_id":"order-1001","customer":"customer-4711","cents":1234}`
	// atOnce is how many messages a batch has.
	atOnce = 1000
)

func messages(from, n int) []transport.Message {
	msgs := make([]transport.Message, n)
	for i := range msgs {
		id := strconv.Itoa(from + i)
		msgs[i] = transport.Message{ID: "0190b5a0-0000-7000-8000-" + "000000000000"[:12-len(id)] + id, Name: "orders.placed", Payload: []byte(payload)}
	}
	return msgs
}

// each calls publish for 0 to n-1 from sixteen goroutines.
func each(n int, publish func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, publishers)
	for range publishers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := publish(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// oursPublish16 publishes one message a call.
func (s *server) oursPublish16(ctx context.Context, r *bench.Run) (err error) {
	t, err := transport.Open(ctx, s.url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	topic := unique("p")
	if err := t.Publish(ctx, topic, messages(0, 1)); err != nil {
		return err
	}
	r.Start()
	err = each(r.N, func(i int) error { return t.Publish(ctx, topic, messages(i, 1)) })
	r.Stop(r.N)
	return errors.Join(err, s.count(ctx, topic, r.N+1))
}

// oursPublish1000 publishes a thousand messages a call; N counts calls.
func (s *server) oursPublish1000(ctx context.Context, r *bench.Run) (err error) {
	t, err := transport.Open(ctx, s.url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	topic := unique("p")
	if err := t.Publish(ctx, topic, messages(0, 1)); err != nil {
		return err
	}
	r.Start()
	for i := range r.N {
		if err := t.Publish(ctx, topic, messages(i*atOnce, atOnce)); err != nil {
			return err
		}
	}
	r.Stop(r.N * atOnce)
	return s.count(ctx, topic, r.N*atOnce+1)
}

// count verifies a topic, and removes it, so that no run leaves the next one's disk fuller.
func (s *server) count(ctx context.Context, topic string, want int) error {
	var n int
	if err := s.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM watermill_"+topic).Scan(&n); err != nil {
		return err
	}
	if n != want {
		return fmt.Errorf("%d messages were published, want %d", n, want)
	}
	_, err := s.db.ExecContext(ctx, "DROP TABLE watermill_"+topic)
	return err
}

// fill publishes the backlog of topic, unless it is there.
func (s *server) fill(ctx context.Context, topic string) (err error) {
	n := backlogs[topic]
	if n == 0 || s.filled[topic] {
		return nil
	}
	s.filled[topic] = true
	t, err := transport.Open(ctx, s.url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	for i := 0; i < n; i += atOnce {
		if err := t.Publish(ctx, topic, messages(i, atOnce)); err != nil {
			return err
		}
	}
	if s == &pg {
		return s.exec(ctx, "VACUUM ANALYZE watermill_"+topic)
	}
	return nil
}

// oursConsume handles r.N messages of the backlog of topic, as a new group; each message is acknowledged after it was
// received, by a second goroutine, as a bus does.
func (s *server) oursConsume(topic string) bench.Contender {
	return func(ctx context.Context, r *bench.Run) (err error) {
		if err := s.fill(ctx, topic); err != nil {
			return err
		}
		t, err := transport.Open(ctx, s.url)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.Close()) }()
		r.Start()
		sub, err := t.Subscribe(ctx, transport.SubscribeConfig{Topic: topic, Group: unique("g"), Prefetch: 4 * atOnce})
		if err != nil {
			return err
		}
		acks := make(chan []transport.Settlement, 16)
		settled := make(chan error, 1)
		go func() {
			var err error
			for x := range acks {
				for more := true; more && len(x) < 4*atOnce; { // what has come meanwhile goes along
					select {
					case y, ok := <-acks:
						x, more = append(x, y...), ok
					default:
						more = false
					}
				}
				if e := sub.Settle(ctx, x); e != nil && err == nil {
					err = e
				}
			}
			settled <- err
		}()
		seen, last := 0, ""
		for seen < r.N {
			ds, err := sub.Receive(ctx, atOnce)
			if err != nil {
				close(acks)
				return errors.Join(err, <-settled)
			}
			x := make([]transport.Settlement, len(ds))
			for i, d := range ds {
				if d.ID <= last {
					return fmt.Errorf("%s came after %s", d.ID, last)
				}
				last = d.ID
				x[i] = transport.Settlement{Tag: d.Tag, Outcome: transport.Ack}
			}
			seen += len(ds)
			acks <- x
		}
		close(acks)
		err = <-settled
		r.Stop(seen)
		return errors.Join(err, sub.Close())
	}
}

// oursLatency reports the median, in ms, from the return of Publish until Receive has the message, on an idle system.
func (s *server) oursLatency(quantile float64) bench.Contender {
	return func(ctx context.Context, r *bench.Run) (err error) {
		// Two transports, as two processes have: the notice travels through the database.
		t, err := transport.Open(ctx, s.url)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.Close()) }()
		other, err := transport.Open(ctx, s.url)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, other.Close()) }()
		topic := unique("l")
		sub, err := other.Subscribe(ctx, transport.SubscribeConfig{Topic: topic, Group: "g"})
		if err != nil {
			return err
		}
		came := make(chan time.Time)
		go func() {
			defer close(came)
			for {
				ds, err := sub.Receive(ctx, 1)
				if err != nil {
					return
				}
				now := time.Now()
				_ = sub.Settle(ctx, []transport.Settlement{{Tag: ds[0].Tag, Outcome: transport.Ack}})
				came <- now
			}
		}()
		r.Start()
		var took []time.Duration
		for i := range r.N {
			time.Sleep(20*time.Millisecond + time.Duration(i%7)*7*time.Millisecond)
			if err := t.Publish(ctx, topic, messages(i, 1)); err != nil {
				return err
			}
			published := time.Now()
			at, ok := <-came
			if !ok {
				return errors.New("the message did not come")
			}
			took = append(took, max(0, at.Sub(published)))
		}
		r.Stop(r.N)
		r.Report(quantileOf(took, quantile))
		err = sub.Close()
		for range came {
		}
		return err
	}
}
