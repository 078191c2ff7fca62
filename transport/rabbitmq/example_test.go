package rabbitmq_test

import (
	"context"
	"fmt"
	"os"

	"github.com/postbus/postbus/transport/rabbitmq"
)

func ExampleOpen() {
	ctx := context.Background()
	t, err := rabbitmq.Open(ctx, rabbitmq.Config{
		URL:                  "amqps://shop@broker.example:5671/shop",
		PasswordFile:         os.Getenv("SHOP_BROKER_PASSWORD_FILE"),
		SingleActiveConsumer: true, // keeps the order of each group
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()
	if s := t.Status().Publish; s.State != rabbitmq.Up || s.Blocked != "" {
		fmt.Println("publishing is held up since", s.Since, s.Err, s.Blocked)
	}
}
