// Fromwatermill is one handler twice: with Watermill's CQRS component in watermill.go, with a bus in postbus.go.
package main

import (
	"context"
	"fmt"
	"log"
)

type Placed struct {
	OrderID string `json:"order_id"`
}

// EventName is what a bus wants to know of an event; Watermill's marshaler takes the name of the Go type.
func (Placed) EventName() string { return "orders.placed" }

func charge(by string) func(context.Context, Placed) error {
	return func(_ context.Context, e Placed) error {
		fmt.Println(by, "charges", e.OrderID)
		return nil
	}
}

func main() {
	for _, run := range []func(context.Context) error{withWatermill, withPostbus} {
		if err := run(context.Background()); err != nil {
			log.Fatal(err)
		}
	}
}
