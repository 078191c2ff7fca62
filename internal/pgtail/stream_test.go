package pgtail

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// TestWholeTransactions: what fits into a batch is handed over with its end, so that it is never read again; what does not
// need not fit into memory.
func TestWholeTransactions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stream{}
		s.changed = sync.NewCond(&s.mu)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		context.AfterFunc(ctx, s.wake)
		var got []int
		busy := make(chan struct{}, 1) // full, it holds up who handles
		go func() {
			_ = s.hand(ctx, func(context.Context) error { return nil }, func(_ context.Context, rows []Row) error {
				busy <- struct{}{}
				<-busy
				got = append(got, len(rows))
				return nil
			})
		}()
		expect := func(flushed LSN, batches ...int) {
			t.Helper()
			synctest.Wait()
			if !slices.Equal(got, batches) || s.flushed != flushed || s.bytes != rowOverhead*len(s.pending) {
				t.Errorf("batches of %v up to %d, %d bytes left; want %v up to %d", got, s.flushed, s.bytes, batches, flushed)
			}
			got = nil
		}
		push := func(rows int) {
			for range rows {
				s.push(Row{})
			}
		}
		push(3)
		expect(0)
		s.push(Row{end: 1})
		expect(1, 3)
		push(batchRows)
		expect(1)
		s.push(Row{end: 2})
		expect(2, batchRows)
		push(batchRows + 1)
		expect(2, batchRows)
		push(1)
		expect(2)
		s.push(Row{end: 3})
		expect(3, 2)

		// All this comes while one is handled.
		busy <- struct{}{}
		push(1)
		s.push(Row{end: 4})
		synctest.Wait()
		push(2)
		s.push(Row{end: 5})
		push(batchRows - 2)
		s.push(Row{end: 6})
		push(3)
		<-busy
		expect(6, 1, 2, batchRows-2)
		s.push(Row{end: 7})
		expect(7, 3)
	})
}
