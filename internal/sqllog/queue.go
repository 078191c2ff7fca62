package sqllog

import (
	"slices"
)

// queue holds entries by seq. Most pushes are at the end.
type queue struct {
	items []*entry
	first int
}

func (q *queue) len() int { return len(q.items) - q.first }

func (q *queue) push(e *entry) {
	if n := len(q.items); q.first == n {
		q.items, q.first = append(q.items[:0], e), 0
	} else if q.items[n-1].seq < e.seq {
		if q.first > 1024 && q.first > n/2 {
			q.items = slices.Delete(q.items, 0, q.first)
			q.first = 0
		}
		q.items = append(q.items, e)
	} else {
		i, _ := slices.BinarySearchFunc(q.items[q.first:], e.seq, func(e *entry, seq uint64) int {
			if e.seq < seq {
				return -1
			}
			return 1
		})
		q.items = slices.Insert(q.items, q.first+i, e)
	}
}

func (q *queue) front() *entry { return q.items[q.first] }

func (q *queue) pop() *entry {
	e := q.items[q.first]
	q.items[q.first] = nil
	q.first++
	return e
}
