package watermill_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware/watermill"
	"github.com/postbus/postbus/transport"
)

func ExampleAdapt() {
	chain := bus.Chain( // as in bus.Config.Middleware: the first is the outermost
		watermill.Adapt(middleware.Retry{MaxRetries: 2}.Middleware),
		watermill.Adapt(middleware.Recoverer),
	)
	tries := 0
	handler := chain(func(context.Context, *bus.Delivery) error {
		if tries++; tries < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	err := handler(context.Background(), bus.NewDelivery(&transport.Message{ID: "1"}, "orders", "billing", 1))
	fmt.Println(tries, err)
	// Output: 3 <nil>
}
