package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/postbus/postbus/transport"
)

func TestDeletedQueueComesBack(t *testing.T) {
	t.Parallel()
	tr := openQuiet(t, brokerURL(t), nil)
	topic := unique(t, "g")
	sub := subscribe(t, tr, topic, "g")
	publish(t, tr, topic, messages("before", 1)...)
	d := receive(t, sub, 1)
	admin := dial(t, brokerURL(t))
	defer admin.Close()
	ch, err := admin.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDelete(topic+"_g", false, false, false); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got := make(chan []transport.Delivery, 1)
	go func() {
		for ctx.Err() == nil {
			if ds, err := sub.Receive(ctx, 1); err == nil {
				got <- ds
				return
			}
		}
		close(got)
	}()
	for i := 0; ; i++ {
		publish(t, tr, topic, messages(fmt.Sprint("after", i), 1)...)
		select {
		case ds := <-got:
			if len(ds) == 0 {
				t.Fatalf("the queue was not declared again within %v", patience)
			}
			settle(t, sub, transport.Ack, d...) // void
			settle(t, sub, transport.Ack, ds...)
			return
		default:
		}
	}
}

func TestDeletedExchangeComesBack(t *testing.T) {
	t.Parallel()
	tr := openQuiet(t, brokerURL(t), nil)
	topic := unique(t)
	publish(t, tr, topic, messages("before", 1)...)
	admin := dial(t, brokerURL(t))
	defer admin.Close()
	ch, err := admin.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.ExchangeDelete(topic, false, false); err != nil {
		t.Fatal(err)
	}
	if err := tr.Publish(t.Context(), topic, messages("lost", 1)); !errors.Is(err, transport.ErrOutcomeUnknown) {
		t.Errorf("publish to an exchange that is gone: %v", err)
	}
	publish(t, tr, topic, messages("after", 1)...)
}

func TestBlockedBroker(t *testing.T) {
	t.Parallel()
	p := newProxy(t, brokerURL(t))
	tr := openQuiet(t, p.url, nil)
	topic := unique(t)
	publish(t, tr, topic, messages("before", 1)...)
	p.block("low on memory")
	eventually(t, "the block is seen", func() bool { return tr.Status().Publish.Blocked == "low on memory" })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := tr.Publish(ctx, topic, messages("waits", 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("publish while the broker blocks: %v", err)
	}
	result := make(chan error, 1)
	go func() { result <- tr.Publish(t.Context(), topic, messages("comes", 1)) }()
	select {
	case err := <-result:
		t.Fatalf("publish returned while the broker blocked: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	p.unblock()
	if err := <-result; err != nil {
		t.Errorf("publish after the block: %v", err)
	}
	p.block("low on disk")
	eventually(t, "the block is seen", func() bool { return tr.Status().Publish.Blocked != "" })
	go func() { result <- tr.Publish(t.Context(), topic, messages("closed", 1)) }()
	start := time.Now()
	tr.Close()
	if took := time.Since(start); took > time.Minute {
		t.Errorf("Close took %v while the broker blocked", took)
	}
	if err := <-result; err == nil {
		t.Error("publish succeeded although the transport was closed and the broker blocked")
	}
}
