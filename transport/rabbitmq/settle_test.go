package rabbitmq

import (
	"fmt"
	"math/rand/v2"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// TestAcksCoverExactlyWhatIsNamed settles tags in random order and checks each frame against a broker that knows them.
func TestAcksCoverExactlyWhatIsNamed(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			ts := newTags()
			const n = 1000
			broker := map[uint64]bool{} // outstanding
			var open []uint64
			next := uint64(1)
			for next <= n || len(open) > 0 {
				for k := r.IntN(60); k > 0 && next <= n; k-- {
					ts.reach(next)
					*ts.at(next) = tagEntry{state: unsettled, d: &amqp.Delivery{DeliveryTag: next}}
					broker[next] = true
					open = append(open, next)
					next++
				}
				r.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
				k := r.IntN(len(open) + 1)
				var named []uint64
				want := map[uint64]bool{}
				for _, tag := range open[:k] {
					if r.IntN(4) == 0 {
						ts.done(tag, settled) // requeued
						delete(broker, tag)
						continue
					}
					ts.done(tag, acked)
					named = append(named, tag)
					want[tag] = true
				}
				open = open[k:]
				for _, f := range ts.flush(named) {
					if !broker[f.tag] {
						t.Fatalf("ack of %d, which the broker does not know: it closes the channel", f.tag)
					}
					for tag := range broker {
						if tag == f.tag || f.multiple && tag < f.tag {
							if !want[tag] {
								t.Fatalf("frame %+v acks %d, which is not named", f, tag)
							}
							delete(broker, tag)
							delete(want, tag)
						}
					}
				}
				if len(want) > 0 {
					t.Fatalf("not acked: %v", want)
				}
			}
		})
	}
}
