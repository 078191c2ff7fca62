package rabbitmq_test

import (
	"fmt"
	"testing"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/rabbitmq"
)

// TestOrderSurvivesTheChannel requeues messages, which a quorum queue then counts as given out last, and ends the channel
// while they are in hand again: what comes next is in the order of publication nevertheless.
func TestOrderSurvivesTheChannel(t *testing.T) {
	t.Parallel()
	type side struct {
		p   *proxy
		tr  *rabbitmq.Transport
		sub transport.Subscription
		// again: sub is another subscription
		again bool
	}
	for name, end := range map[string]func(*testing.T, *side, string) (acked map[string]bool){
		"connection cut": func(_ *testing.T, x *side, _ string) map[string]bool { x.p.cut(); return map[string]bool{} },
		"cut twice": func(t *testing.T, x *side, _ string) map[string]bool {
			x.p.cut()
			d := receive(t, x.sub, 1)[0]
			settle(t, x.sub, transport.Ack, d)
			x.p.cut()
			return map[string]bool{d.ID: true}
		},
		"consumer timeout": func(_ *testing.T, x *side, _ string) map[string]bool {
			rabbitmq.BreakChannel(x.sub)
			return map[string]bool{}
		},
		"closed, and subscribed again": func(t *testing.T, x *side, topic string) map[string]bool {
			x.sub.Close()
			x.sub, x.again = subscribe(t, x.tr, topic, "g"), true
			return map[string]bool{}
		},
	} {
		for _, queue := range []string{"quorum", "classic"} {
			t.Run(name+"/"+queue, func(t *testing.T) {
				t.Parallel()
				p := newProxy(t, with(t, brokerURL(t), "single-active-consumer=true&queue="+queue))
				tr, err := rabbitmq.OpenURL(t.Context(), p.url, quiet())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { tr.Close() })
				topic := unique(t, "g")
				x := &side{p: p, tr: tr, sub: subscribe(t, tr, topic, "g")}
				publish(t, tr, topic, messages("m", 9)...)
				got := receive(t, x.sub, 6)
				settle(t, x.sub, transport.Ack, got[0])
				settle(t, x.sub, transport.Requeue, got[3], got[1])
				receive(t, x.sub, 2) // these, again: the broker has them behind the others
				settle(t, x.sub, transport.Release, got[4])

				acked := end(t, x, topic)
				acked["m-0"] = true
				// What the old channel still had may come, and be acknowledged. From the new one, nothing overtakes a message
				// that has not been acknowledged; a duplicate of one that has may come at any time.
				var order []string
				for len(acked) < 9 {
					d := receive(t, x.sub, 1)[0]
					settle(t, x.sub, transport.Ack, d)
					if x.again || rabbitmq.Generation(d) > rabbitmq.Generation(got[0]) {
						order = append(order, d.ID)
						for n := range 9 {
							if before := fmt.Sprint("m-", n); before < d.ID && !acked[before] {
								t.Errorf("%s came before %s; so far %v", d.ID, before, order)
							}
						}
					}
					acked[d.ID] = true
				}
			})
		}
	}
}
