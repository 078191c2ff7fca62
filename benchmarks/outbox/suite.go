// Package outbox measures the transactional outbox and the inbox on PostgreSQL.
package outbox

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/postbus/postbus/benchmarks/database"
	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/store"
)

const (
	// clients write at once, and workers handle.
	clients, workers = 16, 16
	// fillBatch is how many events a transaction writes that makes a backlog.
	fillBatch = 1000
	// topic is where events are forwarded to.
	topic = "orders"
)

var (
	url    string // of the database
	db     *store.DB
	broker string

	serial atomic.Int64
)

func unique(prefix string) string { return prefix + strconv.FormatInt(serial.Add(1), 10) }

// Suite is the suite outbox.
var Suite = bench.Suite{
	Name:  "outbox",
	About: "the outbox in PostgreSQL, and its forwarder to RabbitMQ and memory",
	Open: func(ctx context.Context) (done func() error, err error) {
		if broker = os.Getenv("POSTBUS_TEST_RABBITMQ_URL"); broker == "" {
			return nil, errors.New("POSTBUS_TEST_RABBITMQ_URL is not set: see scripts/services env")
		}
		if url, db, done, err = database.Create(ctx, "POSTBUS_TEST_POSTGRES_URL"); err != nil {
			return nil, err
		}
		db.SQL().SetMaxOpenConns(clients + 4)
		_, err = db.SQL().ExecContext(ctx, "CREATE TABLE business (id bigserial PRIMARY KEY, customer text, cents bigint)")
		return done, err
	},
	Cases: []bench.Case{
		{Name: "forward-rabbitmq", Ours: forwardRabbit, Peers: []bench.Peer{{Name: "watermill-forwarder", Run: theirsForward, Goal: 20}}},
		{Name: "forward-memory", Ours: forwardMemory, AtLeast: 20_000},
		{Name: "in-tx", Unit: "tx/s", Ours: inTx, Peers: []bench.Peer{
			{Name: "insert-alone", Run: insertAlone, Goal: 0.7},
			{Name: "inserts-by-hand", Run: insertsByHand},
		}},
		{Name: "handle", Ours: handle, Peers: []bench.Peer{{Name: "bare-tx", Run: bareTx, Goal: 0.7}}},
		{Name: "latency-notify", Unit: "ms", N: 30, Ours: latency(false), AtMost: 5},
		{Name: "latency-tail", Unit: "ms", N: 30, Ours: latency(true), AtMost: 5},
	},
}
