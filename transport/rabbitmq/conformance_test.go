package rabbitmq_test

import (
	"context"
	"sync"
	"testing"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/rabbitmq"
	"github.com/postbus/postbus/transport/transporttest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	at := brokerURL(t) // here, for an opener is called by a goroutine that must not end the test
	for name, query := range map[string]string{
		"quorum":        "connect_timeout=2m&max_payload=1000000&single-active-consumer=true",
		"quorum shared": "connect_timeout=2m&max_payload=1000000",
		"classic":       "connect_timeout=2m&max_payload=1000000&queue=classic&single-active-consumer=true",
	} {
		skip := map[string]string{}
		if name == "quorum shared" { // each makes 60 queues
			skip["names/topics"], skip["names/groups"] = "the names are those of quorum", "the names are those of quorum"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transporttest.Run(t, transporttest.Config{
				New: func(t testing.TB) transporttest.Opener {
					left := newLeftovers(t)
					return func(ctx context.Context) (transport.Transport, error) {
						tr, err := rabbitmq.OpenURL(ctx, with(t, at, query), quiet())
						if err != nil {
							return nil, err
						}
						return tidy{tr, left}, nil
					}
				},
				Crash: func(_ testing.TB, tr transport.Transport) { rabbitmq.Crash(tr.(tidy).Transport) },
				// Classic queues count nothing, quorum queues count each return: see the documentation of the package.
				InexactAttempts: name == "classic",
				ReleaseCounts:   true,
				Skip:            skip,
				Parallel:        8, // checks wait for the broker most of the time
			})
		})
	}
}

// leftovers are the topics and queues that a test has made on the shared broker.
type leftovers struct {
	mu    sync.Mutex
	names map[[2]string]bool
}

// newLeftovers returns leftovers that are removed when the test ends.
func newLeftovers(t testing.TB) *leftovers {
	l := &leftovers{names: map[[2]string]bool{}}
	t.Cleanup(func() { l.remove(t) })
	return l
}

func (l *leftovers) add(topic, group string) {
	l.mu.Lock()
	l.names[[2]string{topic, group}] = true
	l.mu.Unlock()
}

func (l *leftovers) remove(t testing.TB) {
	conn := dial(t, brokerURL(t))
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	for name := range l.names {
		if name[1] == "" {
			err = ch.ExchangeDelete(rabbitmq.ExchangeName(name[0]), false, false)
		} else {
			_, err = ch.QueueDelete(rabbitmq.QueueName(name[0], name[1]), false, false, false)
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// tidy notes what a transport makes.
type tidy struct {
	*rabbitmq.Transport
	left *leftovers
}

func (x tidy) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	if transport.CheckName("topic", topic) == nil {
		x.left.add(topic, "")
	}
	return x.Transport.Publish(ctx, topic, msgs)
}

func (x tidy) Subscribe(ctx context.Context, cfg transport.SubscribeConfig) (transport.Subscription, error) {
	if cfg.Check() == nil {
		x.left.add(cfg.Topic, "")
		x.left.add(cfg.Topic, cfg.Group)
	}
	return x.Transport.Subscribe(ctx, cfg)
}
