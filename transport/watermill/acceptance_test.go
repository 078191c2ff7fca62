package watermill_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/postbus/postbus/internal/acceptance"
	"github.com/postbus/postbus/transport/memory"
	"github.com/postbus/postbus/transport/watermill"
)

// Watermill's own acceptance suite, against the in-process transport. With ExactlyOnceDelivery it fails on a duplicate,
// but leaves out its tests of closing; so it runs with and without.
func TestWatermillAccepts(t *testing.T) {
	t.Parallel()
	for name, exactlyOnce := range map[string]bool{"exactly once": true, "at least once": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// One transport is the server. The suite publishes up to 10,000 messages before it consumes any.
			server := memory.New(memory.Config{Capacity: 20_000})
			t.Cleanup(func() {
				if err := server.Close(); err != nil {
					t.Error(err)
				}
			})
			inGroup := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
				sub, err := watermill.NewSubscriber(server, watermill.SubscriberConfig{Group: group})
				if err != nil {
					t.Fatal(err)
				}
				return watermill.NewPublisher(server), sub
			}
			acceptance.Run(t, tests.Features{
				ConsumerGroups:      true,
				ExactlyOnceDelivery: exactlyOnce,
				GuaranteedOrder:     true,
				Persistent:          true,
			}, func(t *testing.T) (message.Publisher, message.Subscriber) { return inGroup(t, "group") }, inGroup)
		})
	}
}
