package bustest

import "slices"

// rewind now and then has acknowledged messages of one key come again: the last few, in their order.
func (a *adversary) rewind() bool {
	if a.rand.IntN(8) != 0 || a.faults >= maxAllFaults {
		return false
	}
	a.broker.mu.Lock()
	defer a.broker.mu.Unlock()
	type tail struct {
		q     *brokerQueue
		items []*item // of one key, the last first
	}
	var tails []tail
	for q := range a.broker.queues {
		for i, last := range q.acked {
			key := last.msg.Key
			same := func(it *item) bool { return it.msg.Key == key }
			if key != "" && slices.ContainsFunc(q.acked[i+1:], same) {
				continue
			}
			t := tail{q: q}
			for _, it := range slices.Backward(q.acked[:i+1]) {
				if it != last && (key == "" || !same(it)) {
					continue
				}
				if it.faults >= maxFaults {
					break
				}
				t.items = append(t.items, it)
			}
			if len(t.items) > 0 {
				tails = append(tails, t)
			}
		}
	}
	if len(tails) == 0 {
		return false
	}
	t := tails[a.rand.IntN(len(tails))]
	for _, it := range t.items[:1+a.rand.IntN(min(3, len(t.items)))] {
		a.faults++
		it.faults++
		t.q.acked = slices.DeleteFunc(t.q.acked, func(other *item) bool { return other == it })
		t.q.restore(it)
		a.log("again %s to %s", it, t.q.group)
	}
	return true
}
