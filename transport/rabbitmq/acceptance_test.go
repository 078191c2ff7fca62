package rabbitmq_test

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/transport/rabbitmq"
	"github.com/postbus/postbus/transport/watermill"
)

// TestWatermillReconnects runs TestReconnect of Watermill's suite in a program without the race detector: that test reads
// what a goroutine of its own still writes, and the detector would blame whatever test runs beside it.
func TestWatermillReconnects(t *testing.T) {
	if testing.Short() || !raceDetector {
		t.Skip("part of TestWatermillAccepts without the race detector")
	}
	t.Parallel()
	testservices.RabbitMQ(t)
	out, err := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-timeout=4m",
		"-run=^TestWatermillAccepts$/^TestReconnect$", ".").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestWatermillAccepts/TestReconnect")) {
		t.Errorf("go test: %v\n%s", err, out[max(0, len(out)-8<<10):])
	}
}

// TestWatermillAccepts runs Watermill's own acceptance suite, on a broker that it restarts.
func TestWatermillAccepts(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts a broker")
	}
	t.Parallel()
	broker := testservices.Private(t, "rabbitmq")
	var restart []string
	if !raceDetector {
		restart = broker.RestartCommand(t)
	}
	inGroup := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		tr := openQuiet(t, broker.URL, func(c *rabbitmq.Config) { c.SingleActiveConsumer = true })
		sub, err := watermill.NewSubscriber(tr, watermill.SubscriberConfig{Group: group})
		if err != nil {
			t.Fatal(err)
		}
		return watermill.NewPublisher(tr), sub
	}
	tests.TestPubSub(t, tests.Features{
		ConsumerGroups:                      true,
		Persistent:                          true,
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
		RestartServiceCommand:               restart,
	}, func(t *testing.T) (message.Publisher, message.Subscriber) { return inGroup(t, "group") }, inGroup)
}
