package watermill_test

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
	"github.com/postbus/postbus/transport/transporttest"
	"github.com/postbus/postbus/transport/watermill"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Watermill's GoChannel as a transport: no order, no groups of its own, nothing kept.
func TestGoChannelConforms(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, transporttest.Config{
		New: func(testing.TB) transporttest.Opener {
			return func(context.Context) (transport.Transport, error) {
				pubsub := gochannel.NewGoChannel(gochannel.Config{}, nil)
				return watermill.New(watermill.Config{
					Publisher:  pubsub,
					Subscriber: func(string) (message.Subscriber, error) { return pubsub, nil },
				})
			}
		},
		Ephemeral: true, Quiet: 30 * time.Millisecond,
	})
}

// There and back again: the in-process transport, as a Watermill Pub/Sub, as a transport.
func TestOurPubSubConforms(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		inFlight int
		caps     transport.Capabilities
		maxUUID  int
	}{
		"one in flight": {1, transport.Capabilities{Order: transport.OrderPerTopic}, 36},
		"many":          {500, transport.Capabilities{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := transporttest.Config{
				New: func(t testing.TB) transporttest.Opener {
					return func(context.Context) (transport.Transport, error) {
						inner := memory.New(memory.Config{Capacity: 5000})
						t.Cleanup(func() { _ = inner.Close() })
						return watermill.New(watermill.Config{
							Publisher: watermill.NewPublisher(inner), Capabilities: test.caps, MaxUUID: test.maxUUID,
							Subscriber: func(group string) (message.Subscriber, error) {
								return watermill.NewSubscriber(inner, watermill.SubscriberConfig{Group: group, InFlight: test.inFlight})
							},
						})
					}
				},
				Quiet: 30 * time.Millisecond,
			}
			if test.inFlight == 1 {
				cfg.InFlight = 1
			}
			transporttest.Run(t, cfg)
		})
	}
}
