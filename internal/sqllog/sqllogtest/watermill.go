package sqllogtest

import (
	"testing"

	wm "github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/postbus/postbus/internal/acceptance"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/watermill"
)

// Accept runs Watermill's own acceptance suite. Each of its constructors, up to fifty of which run in one test, gets a
// transport of its own from open; those of one test find the same database. With the race detector, under which a commit
// for each message takes long, it is the suite's short form: ten constructors and a tenth of the messages.
func Accept(t *testing.T, open func(t testing.TB) transport.Transport) {
	inGroup := func(t *testing.T, group string) (wm.Publisher, wm.Subscriber) {
		tr := open(t)
		t.Cleanup(func() {
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
		})
		sub, err := watermill.NewSubscriber(tr, watermill.SubscriberConfig{Group: group})
		if err != nil {
			t.Fatal(err)
		}
		return watermill.NewPublisher(tr), sub
	}
	features := tests.Features{ConsumerGroups: true, Persistent: true, GuaranteedOrder: true, ForceShort: raceDetector}
	acceptance.Run(t, features, func(t *testing.T) (wm.Publisher, wm.Subscriber) { return inGroup(t, "group") }, inGroup)

	// A group of its own for each subscriber.
	features.NewSubscriberReceivesOldMessages = true
	t.Run("NewGroupsReceiveOldMessages", func(t *testing.T) {
		t.Parallel()
		tests.TestNewSubscriberReceivesOldMessages(t, tests.TestContext{TestID: tests.NewTestID(), Features: features},
			func(t *testing.T) (wm.Publisher, wm.Subscriber) { return inGroup(t, Unique("group")) })
	})
}
