package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/transport"
)

func connect(t *testing.T, rawURL string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", rawURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func foreignSubscriber(t *testing.T, db *sql.DB, group string) *wsql.Subscriber {
	t.Helper()
	s, err := wsql.NewSubscriber(wsql.BeginnerFromStdSQL(db), wsql.SubscriberConfig{
		ConsumerGroup: group, SchemaAdapter: wsql.DefaultPostgreSQLSchema{SubscribeBatchSize: 1}, OffsetsAdapter: wsql.DefaultPostgreSQLOffsetsAdapter{},
		InitializeSchema: true, PollInterval: 10 * time.Millisecond,
	}, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func foreignPublisher(t *testing.T, db wsql.ContextExecutor, initialize bool) *wsql.Publisher {
	t.Helper()
	p, err := wsql.NewPublisher(db, wsql.PublisherConfig{SchemaAdapter: wsql.DefaultPostgreSQLSchema{}, AutoInitializeSchema: initialize}, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func foreignReceive(t *testing.T, c <-chan *message.Message, n int) (ids []string) {
	t.Helper()
	timeout := time.After(time.Minute)
	for range n {
		select {
		case m := <-c:
			ids = append(ids, m.UUID)
			m.Ack()
		case <-timeout:
			t.Fatalf("watermill got only %v", ids)
		}
	}
	return ids
}

func open(t *testing.T, rawURL string) transport.Transport {
	t.Helper()
	tr, err := transport.Open(t.Context(), rawURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func subscribe(t *testing.T, tr transport.Transport, topic, group string) transport.Subscription {
	t.Helper()
	s, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: topic, Group: group, Prefetch: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func receive(t *testing.T, s transport.Subscription, n int) (ids []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for len(ids) < n {
		ds, err := s.Receive(ctx, n-len(ids))
		if err != nil {
			t.Fatalf("got only %v: %v", ids, err)
		}
		var x []transport.Settlement
		for _, d := range ds {
			ids = append(ids, d.ID)
			x = append(x, transport.Settlement{Tag: d.Tag, Outcome: transport.Ack})
		}
		if err := s.Settle(ctx, x); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func publish(t *testing.T, tr transport.Transport, topic string, ids ...string) {
	t.Helper()
	var msgs []transport.Message
	for _, id := range ids {
		msgs = append(msgs, transport.Message{ID: id, Name: "a.b", Key: "k", Payload: []byte(`{"a": 1}`), Metadata: map[string]string{"m": "v"}})
	}
	if err := tr.Publish(t.Context(), topic, msgs); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestWatermill: plain Watermill programs on both sides, and one group that goes back and forth.
func TestWatermill(t *testing.T) {
	t.Parallel()
	rawURL := database(t)
	topic := sqllogtest.Unique("wm")
	db := connect(t, rawURL)
	theirs := foreignPublisher(t, wsql.BeginnerFromStdSQL(db), true)
	for i := range 6 {
		m := message.NewMessage(fmt.Sprintf("w%d", i), []byte(`{"w": true}`))
		m.Metadata.Set("name", "w.happened")
		if err := theirs.Publish(topic, m); err != nil {
			t.Fatal(err)
		}
	}
	sub := foreignSubscriber(t, db, "shared")
	c, err := sub.Subscribe(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	want(t, foreignReceive(t, c, 2), "w0", "w1")
	poll(t, "watermill's offset", func() bool {
		var n int64
		_ = db.QueryRow(`SELECT offset_acked FROM "watermill_offsets_` + topic + `" WHERE consumer_group = 'shared'`).Scan(&n)
		return n == 2
	})
	go func(c <-chan *message.Message) { // the next one is given back
		for m := range c {
			m.Nack()
		}
	}(c)
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}

	tr := open(t, rawURL)
	s := subscribe(t, tr, topic, "shared")
	want(t, receive(t, s, 4), "w2", "w3", "w4", "w5")
	publish(t, tr, topic, "p0", "p1", "p2")
	want(t, receive(t, s, 1), "p0")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	sub = foreignSubscriber(t, db, "shared")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if c, err = sub.Subscribe(ctx, topic); err != nil {
		t.Fatal(err)
	}
	m := <-c
	if m.UUID != "p1" || string(m.Payload) != `{"a": 1}` || m.Metadata["m"] != "v" || m.Metadata["name"] != "a.b" {
		t.Errorf("watermill got %s %s %v", m.UUID, m.Payload, m.Metadata)
	}
	m.Ack()
	want(t, foreignReceive(t, c, 1), "p2")
	poll(t, "watermill's offset", func() bool {
		var n int64
		_ = db.QueryRow(`SELECT offset_acked FROM "watermill_offsets_` + topic + `" WHERE consumer_group = 'shared'`).Scan(&n)
		return n == 9
	})
	cancel()
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	publish(t, tr, topic, "last")
	want(t, receive(t, subscribe(t, tr, topic, "shared"), 1), "last")
}

func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestNoGapNoLoss: transactions that commit in the reverse order of their numbers, and one that rolls back.
func TestNoGapNoLoss(t *testing.T) {
	t.Parallel()
	rawURL := database(t)
	topic := sqllogtest.Unique("gap")
	tr := open(t, rawURL)
	s := subscribe(t, tr, topic, "g")
	db := connect(t, rawURL)
	begin := func(id string) *sql.Tx {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := foreignPublisher(t, wsql.TxFromStdSQL(tx), false).Publish(topic, message.NewMessage(id, []byte("{}"))); err != nil {
			t.Fatal(err)
		}
		return tx
	}
	first, second, third := begin("1"), begin("2"), begin("3")
	publish(t, tr, topic, "4")
	for _, err := range []error{third.Commit(), second.Rollback()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if ds, err := s.Receive(ctx, 10); err == nil {
		t.Errorf("got %v while an earlier one can still commit", ds[0].ID)
	}
	poll(t, "the stall is seen", func() bool { // others can hold the log back as well, and have just ended
		all, err := tr.(transport.StatusReporter).Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(all, func(g transport.GroupStatus) bool {
			return g.Topic == topic && g.StalledBy != 0 && g.StalledFor > 0 && g.Lag == 2
		})
	})
	if err := first.Commit(); err != nil {
		t.Fatal(err)
	}
	want(t, receive(t, s, 3), "1", "3", "4")
}
