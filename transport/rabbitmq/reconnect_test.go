package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/rabbitmq"
)

// openQuiet opens a transport whose warnings are expected.
func openQuiet(t testing.TB, rawURL string, change func(*rabbitmq.Config)) *rabbitmq.Transport {
	t.Helper()
	cfg := rabbitmq.Config{URL: rawURL, Logger: quiet(), ConnectTimeout: patience}
	if change != nil {
		change(&cfg)
	}
	tr, err := rabbitmq.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

// eventually polls until ok, and fails after a deadline.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// stubborn publishes until the broker has it.
func stubborn(t testing.TB, tr transport.Transport, topic string, msgs ...transport.Message) {
	for t.Context().Err() == nil {
		if tr.Publish(t.Context(), topic, msgs) == nil {
			return
		}
	}
}

// drain receives and acks until all that is wanted has come.
func drain(t testing.TB, sub transport.Subscription, want ...transport.Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	missing := map[string]bool{}
	for _, m := range want {
		missing[m.ID] = true
	}
	for len(missing) > 0 {
		got, err := sub.Receive(ctx, 50)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d messages did not come; last error: %v", len(missing), len(want), err)
		}
		for _, d := range got {
			if len(d.Payload) == 0 {
				t.Errorf("an empty message came: %+v", d)
			}
			delete(missing, d.ID)
		}
		settle(t, sub, transport.Ack, got...)
	}
}

func TestNothingIsLostOverCuts(t *testing.T) {
	t.Parallel()
	p := newProxy(t, brokerURL(t))
	tr := openQuiet(t, p.url, nil)
	topic := unique(t, "g")
	sub := subscribe(t, tr, topic, "g")
	const n, publishers = 2000, 8
	var wg sync.WaitGroup
	defer wg.Wait()
	published := make(chan struct{}, n)
	for i := range publishers {
		wg.Go(func() {
			for _, m := range messages("m", n)[i*n/publishers : (i+1)*n/publishers] {
				stubborn(t, tr, topic, m)
				published <- struct{}{}
			}
		})
	}
	wg.Go(func() {
		for i := range n {
			<-published
			if i%250 == 100 {
				p.cut()
			}
		}
	})
	drain(t, sub, messages("m", n)...)
}

// TestGoroutinesStayFlat cuts two connections five hundred times, while it publishes and a subscription waits.
func TestGoroutinesStayFlat(t *testing.T) {
	broker := newFake(t, 0)
	tr := openQuiet(t, broker.url, rabbitmq.Hasty)
	sub := subscribe(t, tr, "topic", "g")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	received := make(chan struct{})
	go func() {
		defer close(received)
		for ctx.Err() == nil {
			sub.Receive(ctx, 1)
		}
	}()
	connects := func() int { return tr.Status().Consume.Connects }
	cycle := func() {
		n := connects()
		broker.cut()
		stubborn(t, tr, "topic", messages("m", 1)...)
		eventually(t, "the connection for consuming is up again", func() bool { return connects() > n })
	}
	cycle()
	before := runtime.NumGoroutine()
	for range 500 {
		cycle()
	}
	// Some may have been on their way up then, or be on their way down now; what each cut leaves behind would be more.
	eventually(t, "no more goroutines than before", func() bool { return runtime.NumGoroutine() < before+100 })
	if s := tr.Status(); s.Publish.Connects+s.Consume.Connects < 1000 {
		t.Errorf("%d and %d connects; the cuts were not felt", s.Publish.Connects, s.Consume.Connects)
	}
	stop()
	<-received
}

func TestUnconfirmedIsUnknown(t *testing.T) {
	t.Parallel()
	p := newProxy(t, brokerURL(t))
	tr := openQuiet(t, p.url, func(c *rabbitmq.Config) { c.Heartbeat = patience })
	topic := unique(t, "g")
	subscribe(t, tr, topic, "g").Close()
	publish(t, tr, topic, messages("known", 1)...)
	p.set(func() { p.mute = true })

	admin := dial(t, brokerURL(t))
	defer admin.Close()
	ch, err := admin.Channel()
	if err != nil {
		t.Fatal(err)
	}
	brokerHas := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("the broker has %d", n), func() bool {
			q, err := ch.QueueDeclarePassive(topic+"_g", true, false, false, false, nil)
			return err == nil && q.Messages == n
		})
	}
	impatient, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- tr.Publish(impatient, topic, messages("patience", 1)) }()
	brokerHas(2)
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) || !errors.Is(err, transport.ErrOutcomeUnknown) {
		t.Errorf("a context that ends before the confirm: %v", err)
	}
	go func() { result <- tr.Publish(t.Context(), topic, messages("lost", 3)) }()
	brokerHas(5)
	p.cut()
	p.set(func() { p.mute = false })
	err = <-result
	var partial *transport.PublishError
	if !errors.Is(err, transport.ErrOutcomeUnknown) || !errors.As(err, &partial) || len(partial.Errs) != 3 {
		t.Errorf("a connection lost before the confirm: %v", err)
	}
	drain(t, subscribe(t, tr, topic, "g"), append(messages("known", 1), messages("lost", 3)...)...)
}

// TestImpatientCallersShareADeclaration: those who leave before the broker has answered do not use up the channels.
func TestImpatientCallersShareADeclaration(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newFake(t, 0).url)
	tr := openQuiet(t, p.url, nil)
	p.set(func() { p.mute = true })
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		err := tr.Publish(ctx, "topic", messages("m", 1))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Publish: %v", err)
		}
	}
	p.set(func() { p.mute = false })
	publish(t, tr, "topic", messages("m", 1)...)
}

func TestTagsDieWithTheirChannel(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(*proxy, transport.Subscription){
		"connection cut":   func(p *proxy, _ transport.Subscription) { p.cut() },
		"consumer timeout": func(_ *proxy, sub transport.Subscription) { rabbitmq.BreakChannel(sub) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, brokerURL(t))
			tr := openQuiet(t, p.url, nil)
			topic := unique(t, "g")
			sub := subscribe(t, tr, topic, "g")
			publish(t, tr, topic, messages("m", 5)...)
			old := receive(t, sub, 5)
			harm(p, sub)
			var gen uint64
			for i, was := range old {
				d := receive(t, sub, 1)[0]
				settle(t, sub, transport.Ack, old...) // void: must neither fail, nor close the new channel, nor ack
				if i == 0 {
					gen = rabbitmq.Generation(d)
				}
				if d.ID != was.ID || d.Attempt != 2 || rabbitmq.Generation(d) != gen {
					t.Errorf("delivery %d is %s, attempt %d on channel %d; want %s, attempt 2 on %d",
						i, d.ID, d.Attempt, rabbitmq.Generation(d), was.ID, gen)
				}
				if i < 4 {
					settle(t, sub, transport.Ack, d)
				}
			}
			sub.Close()
			d := receive(t, subscribe(t, tr, topic, "g"), 1)[0]
			if d.ID != old[4].ID {
				t.Errorf("%s came again, want %s", d.ID, old[4].ID)
			}
		})
	}
}

// TestReceiveEndsBeforeItsChannelOpens: what the broker has delivered on the channel by then comes on it, and is neither
// given back nor counted.
func TestReceiveEndsBeforeItsChannelOpens(t *testing.T) {
	t.Parallel()
	p := newProxy(t, brokerURL(t))
	tr := openQuiet(t, p.url, func(c *rabbitmq.Config) { c.Heartbeat = patience })
	topic := unique(t, "g")
	sub := subscribe(t, tr, topic, "g")
	publish(t, tr, topic, messages("m", 4)...)
	p.set(func() { p.muteAt = basicGetOk })
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := sub.Receive(ctx, 1)
		result <- err
	}()
	eventually(t, "the first message was fetched", func() (held bool) {
		p.set(func() { held = p.mute })
		return held
	})
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Fatalf("Receive returned %v after its context was cancelled", err)
	}
	p.set(func() { p.muteAt, p.mute = 0, false })
	for _, d := range receive(t, sub, 4) {
		if d.Attempt != 1 || rabbitmq.Generation(d) != 1 {
			t.Errorf("%s came as attempt %d on channel %d; want attempt 1 on channel 1", d.ID, d.Attempt, rabbitmq.Generation(d))
		}
	}
}

func TestBrokerRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts a broker")
	}
	t.Parallel()
	broker := testservices.Private(t, "rabbitmq") // one for both: it takes long to start
	t.Run("ours", func(t *testing.T) { testBrokerRestart(t, broker) })
	t.Run("watermill", func(t *testing.T) { testWatermillReconnects(t, broker) })
}

func testBrokerRestart(t *testing.T, s *testservices.Server) {
	type side struct {
		tr    *rabbitmq.Transport
		topic string
		sub   transport.Subscription
		held  transport.Delivery
	}
	var sides []*side
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, queue := range []rabbitmq.QueueType{rabbitmq.Quorum, rabbitmq.Classic} {
		x := &side{tr: openQuiet(t, s.URL, func(c *rabbitmq.Config) { c.Queue = queue }), topic: "restart-" + string(queue)}
		x.sub = subscribe(t, x.tr, x.topic, "g")
		publish(t, x.tr, x.topic, messages("kept", 10)...)
		publish(t, x.tr, x.topic, transport.Message{ID: "later-0", NotBefore: time.Now().Add(3 * time.Second), Payload: []byte("{}")})
		x.held = receive(t, x.sub, 1)[0]
		wg.Go(func() {
			for _, m := range messages("during", 200) {
				stubborn(t, x.tr, x.topic, m)
			}
		})
		sides = append(sides, x)
	}
	s.Restart(t)
	testLongDelays(t, sides[0].tr, sides[0].topic)
	for _, x := range sides {
		eventually(t, "the loss is noticed", func() bool { return x.tr.Status().Consume.Connects > 1 }) // and what was fetched is void
		again := receive(t, x.sub, 1)[0]
		if again.ID != x.held.ID || again.Attempt != 2 {
			t.Errorf("%s: after the restart came %s, attempt %d; want %s, attempt 2", x.topic, again.ID, again.Attempt, x.held.ID)
		}
		settle(t, x.sub, transport.Requeue, again)
		drain(t, x.sub, append(append(messages("kept", 10), messages("during", 200)...), messages("later", 1)...)...)
	}
}
