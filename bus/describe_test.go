package bus_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/postbus/postbus/bus"
)

type (
	bookedV1 struct{}
	bookedV2 struct{}
	bookedV3 struct{}
)

func (bookedV1) EventName() string { return "desk.booked" }
func (bookedV2) EventName() string { return "desk.booked" }
func (bookedV2) EventVersion() int { return 2 }
func (bookedV3) EventName() string { return "desk.booked" }
func (bookedV3) EventVersion() int { return 3 }

func TestDescribe(t *testing.T) {
	t.Parallel()
	b := newBus(t, bus.Config{Name: "shop", Groups: group("billing", bus.GroupConfig{Workers: 3})})
	expect(t, "description before any wiring", len(b.Describe().Groups), 1)
	bus.Handle(b, "billing", handlePaid)
	bus.Handle(b, "billing", func(context.Context, *placed) error { return nil })
	bus.Handle(b, "desk", func(context.Context, bookedV3) error { return nil })
	bus.Upcast(b, func(bookedV1) (bookedV2, error) { return bookedV2{}, nil })
	bus.Upcast(b, func(bookedV2) (bookedV3, error) { return bookedV3{}, nil })

	d := b.Describe()
	var got []string
	for _, g := range d.Groups {
		got = append(got, fmt.Sprintf("%s workers %d prefetch %t", g.Name, g.Config.Workers, g.Config.Prefetch > 0))
		for _, e := range g.Events {
			got = append(got, fmt.Sprintf("%s v%d on %s as %v %s from %t", e.Name, e.Version, e.Topic, e.Type, e.ContentType, strings.Contains(e.Place, "describe_test.go:")))
		}
	}
	expect(t, "name", d.Name, "shop")
	expect(t, "description", strings.Join(got, "\n"), strings.Join([]string{
		"billing workers 3 prefetch true",
		"orders.paid v1 on orders as bus_test.paid application/json from true",
		"orders.placed v1 on orders as *bus_test.placed application/json from true",
		"desk workers 8 prefetch true",
		"desk.booked v1 on desk as bus_test.bookedV1 application/json from true",
		"desk.booked v2 on desk as bus_test.bookedV2 application/json from true",
		"desk.booked v3 on desk as bus_test.bookedV3 application/json from true",
	}, "\n"))
}
