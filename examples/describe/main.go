// Describe prints a diagram of a program's wiring, for Mermaid; with the argument asyncapi, an AsyncAPI document.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/describe"
)

type Placed struct {
	OrderID string `json:"order_id"`
}

func (Placed) EventName() string { return "orders.placed" }

type Paid struct {
	OrderID string `json:"order_id"`
}

func (Paid) EventName() string { return "payments.paid" }

func main() {
	b, err := bus.New(bus.Config{Name: "shop"}) // it is not started: no transport is needed
	if err != nil {
		log.Fatal(err)
	}
	bus.Handle(b, "billing", func(context.Context, Placed) error { return nil })
	bus.Handle(b, "shipping", func(context.Context, Paid) error { return nil })
	p := describe.Program{
		Description: b.Describe(),
		Publishes:   map[string][]bus.Event{"orders": {Placed{}}, "billing": {Paid{}}},
	}
	if len(os.Args) > 1 && os.Args[1] == "asyncapi" {
		document, err := describe.AsyncAPI(p)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(document))
		return
	}
	fmt.Print(describe.Mermaid(p))
}
