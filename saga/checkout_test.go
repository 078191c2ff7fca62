package saga_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
)

// checkout is the saga of most tests: local decides whether its steps share transactions.
func (f *fixture) checkout(local bool) saga.Definition[order] {
	return saga.Definition[order]{
		Name: "checkout", Start: begin,
		Steps: []saga.Step[order]{
			{Name: "reserve", Do: f.effect("reserve"), Undo: f.effect("release"), Local: local},
			{Name: "charge", Do: request, Undo: f.effect("refund"), Local: local, Await: payment, Timeout: time.Hour},
			{Name: "ship", Do: f.effect("ship"), Pivot: true, Local: local},
		},
	}
}

// payments answers what the saga asks: with declined if the key says so.
func payments(b *bus.Bus, box *outbox.Box) {
	outbox.Handle(b, "payments", box, func(ctx context.Context, tx *outbox.Tx, e ask) error {
		if e.ID[0] == 'd' {
			return tx.Publish(ctx, declined(e))
		}
		return tx.Publish(ctx, captured(e))
	})
}

func TestCheckout(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		for _, local := range []bool{false, true} {
			def := f.checkout(local)
			def.Name = fmt.Sprint("checkout-", local)
			p, stop := f.startStoppable(saga.Config{Sagas: []saga.Saga{def}}, payments)
			good, bad := fmt.Sprint("good-", local), fmt.Sprint("d-", local)
			p.publish(placed{good}, placed{bad})
			i := p.until(def.Name, good, saga.Completed)
			if want := `{"ID":"` + good + `","Note":"paid","Done":["reserve","ship"]}`; string(i.State) != want {
				t.Errorf("the state is %s, want %s", i.State, want)
			}
			p.until(def.Name, bad, saga.Compensated)
			if got, want := f.effects(good), []string{"reserve", "ship"}; !slices.Equal(got, want) {
				t.Errorf("effects %q, want %q", got, want)
			}
			if got, want := f.effects(bad), []string{"reserve", "refund", "release"}; !slices.Equal(got, want) {
				t.Errorf("effects %q, want %q", got, want)
			}
			if got, want := p.story(def.Name, good), "started done:reserve done:charge replied:charge done:ship ended"; got != want {
				t.Errorf("journal %q, want %q", got, want)
			}
			if got, want := p.story(def.Name, bad), "started done:reserve done:charge replied:charge aborted:charge undone:charge undone:reserve ended"; got != want {
				t.Errorf("journal %q, want %q", got, want)
			}
			stop()
		}
	})
}
