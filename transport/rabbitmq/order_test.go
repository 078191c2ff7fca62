package rabbitmq_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/rabbitmq"
)

// TestOrderSurvivesTheChannel requeues messages, and ends the channel while they are in hand again: what comes next, also to
// another process, is in the order of publication.
func TestOrderSurvivesTheChannel(t *testing.T) {
	t.Parallel()
	type side struct {
		p   *proxy
		tr  *rabbitmq.Transport
		sub transport.Subscription
		// open opens another transport
		open func(*testing.T) *rabbitmq.Transport
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
		"closed, and another process": func(t *testing.T, x *side, topic string) map[string]bool {
			x.tr.Close()
			x.sub, x.again = subscribe(t, x.open(t), topic, "g"), true
			return map[string]bool{}
		},
		"crash, and another process": func(t *testing.T, x *side, topic string) map[string]bool {
			rabbitmq.Crash(x.tr)
			x.sub, x.again = subscribe(t, x.open(t), topic, "g"), true
			return map[string]bool{}
		},
		"crash, and another process that waited": func(t *testing.T, x *side, topic string) map[string]bool {
			waiting := subscribe(t, x.open(t), topic, "g")
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if ds, err := waiting.Receive(ctx, 1); err == nil {
				t.Errorf("%v came to a subscription that is not the active one", ds)
			}
			rabbitmq.Crash(x.tr)
			x.sub, x.again = waiting, true
			return map[string]bool{}
		},
	} {
		for _, queue := range []rabbitmq.QueueType{rabbitmq.Quorum, rabbitmq.Classic} {
			t.Run(name+"/"+string(queue), func(t *testing.T) {
				t.Parallel()
				p := newProxy(t, brokerURL(t))
				topic := unique(t, "g")
				x := &side{p: p, open: func(t *testing.T) *rabbitmq.Transport {
					return openQuiet(t, p.url, func(c *rabbitmq.Config) { c.Queue, c.SingleActiveConsumer = queue, true })
				}}
				x.tr = x.open(t)
				x.sub = subscribe(t, x.tr, topic, "g")
				publish(t, x.tr, topic, messages("m", 9)...)
				got := receive(t, x.sub, 6)
				settle(t, x.sub, transport.Ack, got[0])
				settle(t, x.sub, transport.Requeue, got[3], got[1])
				for i, d := range receive(t, x.sub, 2) {
					if d.ID != fmt.Sprint("m-", 1+2*i) || d.Attempt != 2 {
						t.Errorf("after the requeue came %s, attempt %d", d.ID, d.Attempt)
					}
				}
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
