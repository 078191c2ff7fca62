package rabbitmq_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

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
		if restart != nil {
			return watermill.NewPublisher(tr), lastWaits{sub}
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

// lastWaits hands the last message of TestReconnect over when that test has noted all that it published, and restarted the
// broker: it compares at once then, and a message can come before its publisher has heard that the broker has it.
type lastWaits struct{ *watermill.Subscriber }

func (s lastWaits) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	in, err := s.Subscriber.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		const all = 10_000
		came := map[string]bool{}
		for m := range in {
			if came[m.UUID] = true; len(came) == all {
				for m.Context().Err() == nil && !reconnectHasNoted() {
					time.Sleep(10 * time.Millisecond)
				}
			}
			select {
			case out <- m:
			case <-m.Context().Done():
			}
		}
	}()
	return out, nil
}

// The goroutines of TestReconnect that publish and that restart the broker, which end, and the one that notes what was
// published.
var (
	reconnectActs  = regexp.MustCompile(`(?m)^\S+/pubsub/tests\.(TestReconnect\.func3|restartServer)\(`)
	reconnectNotes = regexp.MustCompile(`(?m)\[chan receive[^]]*\]:\n\S+/pubsub/tests\.TestReconnect\.func2\(`)
)

func reconnectHasNoted() bool {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return !reconnectActs.Match(stacks) && reconnectNotes.Match(stacks)
}
