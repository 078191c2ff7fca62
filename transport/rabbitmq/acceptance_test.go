package rabbitmq_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/postbus/postbus/internal/acceptance"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/rabbitmq"
	"github.com/postbus/postbus/transport/watermill"
)

// The broker of testWatermillReconnects, and the command that restarts it, an argument a line.
const (
	restartedBroker = "POSTBUS_TEST_RESTARTED_BROKER"
	restartCommand  = "POSTBUS_TEST_RESTART_COMMAND"
)

// TestWatermillAccepts runs Watermill's own acceptance suite.
func TestWatermillAccepts(t *testing.T) {
	if testing.Short() {
		t.Skip("publishes 20,000 messages")
	}
	t.Parallel()
	left := newLeftovers(t)
	broker, restart := os.Getenv(restartedBroker), strings.Split(os.Getenv(restartCommand), "\n")
	if broker == "" {
		broker, restart = brokerURL(t), nil
	}
	inGroup := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		var tr transport.Transport = openQuiet(t, broker, func(c *rabbitmq.Config) { c.SingleActiveConsumer = true })
		if restart == nil {
			tr = tidy{tr.(*rabbitmq.Transport), left}
		}
		sub, err := watermill.NewSubscriber(tr, watermill.SubscriberConfig{Group: group})
		if err != nil {
			t.Fatal(err)
		}
		return watermill.NewPublisher(tr), sub
	}
	acceptance.Run(t, tests.Features{
		ConsumerGroups:                      true,
		Persistent:                          true,
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
		RestartServiceCommand:               restart,
	}, func(t *testing.T) (message.Publisher, message.Subscriber) { return inGroup(t, "group") }, inGroup)
}

// testWatermillReconnects runs TestReconnect of Watermill's suite, which restarts the broker twice, in a process of its own,
// whose race detector is mute: that test reads what a goroutine of its own still writes, and the detector would blame
// whatever test runs beside it.
func testWatermillReconnects(t *testing.T, broker *testservices.Server) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.v", "-test.run=^TestWatermillAccepts$/^TestReconnect$")
	cmd.Env = append(os.Environ(), "GORACE=report_bugs=0", restartedBroker+"="+broker.URL,
		restartCommand+"="+strings.Join(broker.RestartCommand(t), "\n"))
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestWatermillAccepts/TestReconnect")) {
		t.Errorf("TestReconnect: %v\n%s", err, out[max(0, len(out)-8<<10):])
	}
}
