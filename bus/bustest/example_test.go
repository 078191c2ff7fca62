package bustest_test

import (
	"context"
	"fmt"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bustest"
)

func ExampleRecorder() {
	var events bustest.Recorder
	billing := &Billing{Gateway: &flaky{}, Events: &events}

	if err := billing.Charge(context.Background(), Placed{OrderID: "o1", Cents: 995}); err != nil {
		fmt.Println(err)
	}
	for _, e := range bustest.Published[Paid](&events) {
		fmt.Println("paid:", e.OrderID)
	}
	// Output: paid: o1
}

func ExampleRecorder_Messages() {
	var events bustest.Recorder
	reminder := bus.WithMetadata(map[string]string{"channel": "mail"}, Placed{OrderID: "o1"})
	if err := events.Publish(context.Background(), bus.After(24*time.Hour, reminder)); err != nil {
		fmt.Println(err)
	}
	m := events.Messages()[0]
	fmt.Println(m.Topic, m.Name, m.Key, m.Delay(), m.Metadata["channel"])
	// Output: orders orders.placed o1 24h0m0s mail
}
