package sqllogtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/postbus/postbus/transport"
)

// Those who share have leases that do not run out while a slow machine does something else; a child that is killed has a
// short one.
const (
	sharing = "partitions=4&lease=10s"
	mortal  = "partitions=4&lease=1s"
)

// shared: instances come and go. Each time the partitions are shared out anew, and meanwhile no message comes twice, or
// before an earlier one of its key.
func shared(f *fixture) {
	const keys = 16
	first := f.open(sharing)
	var (
		seen  record
		stops []func()
	)
	join := func(tr transport.Transport) {
		c := f.subscribe(tr, transport.SubscribeConfig{Prefetch: 40})
		ctx, cancel := context.WithCancel(f.Context())
		var wg sync.WaitGroup
		wg.Go(func() { seen.consume(ctx, c) })
		stops = append(stops, func() { cancel(); wg.Wait(); _ = c.Close() })
	}
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	sent := 0
	ctx, cancel := context.WithCancel(f.Context())
	var publishing sync.WaitGroup
	defer publishing.Wait()
	defer cancel()
	publishing.Go(func() {
		for ; ctx.Err() == nil; sleep(ctx, 5*time.Millisecond) {
			if err := first.Publish(f.Context(), f.topic, keyed(sent, sent+20, keys)); err != nil {
				f.Error(err)
			}
			sent += 20
		}
	})
	settled := func(want ...int) {
		f.Helper()
		f.poll(fmt.Sprint("partitions are held as ", want), func() bool { return slices.Equal(f.held(first), want) })
	}
	join(first)
	settled(4)
	join(f.open(sharing))
	settled(2, 2)
	join(f.open(sharing))
	settled(1, 1, 2)
	stops[1]()
	settled(2, 2)
	for range 3 { // one stands by
		join(f.open(sharing))
	}
	settled(1, 1, 1, 1)
	cancel()
	publishing.Wait()
	f.poll("all that was published", func() bool { return seen.count() >= sent })
	if n := len(seen.faults); n > 0 {
		f.Errorf("%d faults, the first: %v", n, seen.faults[:min(n, 5)])
	}
}

// memberKilled: the partitions of an instance that is killed go to the others.
func memberKilled(f *fixture) {
	tr := f.open(sharing)
	c := f.subscribe(tr, transport.SubscribeConfig{})
	child := f.child(mortal, "hold")
	f.poll("the child has its share", func() bool { return slices.Equal(f.held(tr), []int{2, 2}) })
	child.kill()
	f.publish(tr, keyed(0, 40, 16)...)
	c.ack(c.receive(40)...)
	f.poll("the other has them all", func() bool { return slices.Equal(f.held(tr), []int{4}) })
}

// held returns how many partitions each instance holds, the least first.
func (f *fixture) held(tr transport.Transport) []int {
	f.Helper()
	all, err := tr.(transport.StatusReporter).Status(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	by := map[string]int{}
	for _, g := range all {
		if g.Topic == f.topic && g.Owner != "" {
			by[g.Owner]++
		}
	}
	var counts []int
	for _, n := range by {
		counts = append(counts, n)
	}
	slices.Sort(counts)
	return counts
}

// record is what consumers have received.
type record struct {
	mu     sync.Mutex
	n      int
	last   map[string]int // by key
	faults []string
}

func (r *record) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// consume records what comes until ctx ends. It acknowledges only what it has held for a while.
func (r *record) consume(ctx context.Context, c *consumer) {
	var held []transport.Settlement
	for ctx.Err() == nil {
		wait, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		ds, err := c.Receive(wait, 10)
		cancel()
		if err != nil || len(held) >= 20 {
			_ = c.Settle(context.WithoutCancel(ctx), held)
			held = nil
		}
		for _, d := range ds {
			r.came(d)
			held = append(held, transport.Settlement{Tag: d.Tag, Outcome: transport.Ack})
		}
	}
	_ = c.Settle(context.WithoutCancel(ctx), held)
}

func (r *record) came(d transport.Delivery) {
	var n int
	_, _ = fmt.Sscan(d.ID, &n)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[string]int{}
	}
	if last, any := r.last[d.Key]; any && last >= n {
		r.faults = append(r.faults, fmt.Sprintf("%s of key %s came after %d", d.ID, d.Key, last))
	}
	r.last[d.Key] = n
	r.n++
}

// repartitionFails: a group that cannot get its new number of partitions is looked at as often as any other.
func repartitionFails(f *fixture) {
	first := f.open("lease=10s")
	held := f.subscribe(first, transport.SubscribeConfig{})
	f.publish(first, message("1"))
	held.receive(1)
	c := f.subscribe(f.open("lease=10s&partitions=2"), transport.SubscribeConfig{})
	f.refuse("watermill_offsets_"+f.topic, "consumer_group", "<> 'g'")
	_ = held.Close()
	errs := 0
	begun := time.Time{}
	f.poll("the group cannot be changed", func() bool {
		ctx, cancel := context.WithTimeout(f.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := c.Receive(ctx, 1); err != nil && ctx.Err() == nil {
			if errs++; errs == 1 {
				begun = time.Now()
			}
		}
		return errs > 0 && time.Since(begun) > time.Second
	})
	if most := int(time.Since(begun)/(250*time.Millisecond)) + 2; errs > most {
		f.Errorf("%d tries in %v, want at most %d", errs, time.Since(begun), most)
	}
}
