package middleware

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestLazyDeadline holds it against the context of the standard library: whatever is asked, and whenever, both answer alike.
func TestLazyDeadline(t *testing.T) {
	t.Parallel()
	passed, outer := errors.New("passed"), errors.New("outer")
	type key struct{}
	asks := map[string]func(context.Context){
		"nothing": func(context.Context) {},
		"Done":    func(ctx context.Context) { ctx.Done() },
		"Err":     func(ctx context.Context) { _ = ctx.Err() },
		"child":   func(ctx context.Context) { _, cancel := context.WithCancel(ctx); cancel() },
		"after":   func(ctx context.Context) { context.AfterFunc(ctx, func() {})() },
	}
	for name, ask := range asks {
		for _, when := range []string{"at once", "deadline", "outer deadline", "outer cancelled", "ended", "ended and late"} {
			synctest.Test(t, func(t *testing.T) {
				parent, cancelParent := context.WithCancelCause(context.WithValue(t.Context(), key{}, 1))
				defer cancelParent(nil)
				limit := time.Minute
				if when == "outer deadline" {
					var cancel context.CancelFunc
					parent, cancel = context.WithTimeout(parent, limit/2)
					defer cancel()
				}
				want, end := context.WithTimeoutCause(parent, limit, passed)
				defer end()
				got := &lazyDeadline{Context: parent, deadline: time.Now().Add(limit), cause: passed}
				defer got.end()
				ask(got)
				child := context.Context(got)
				if name != "nothing" {
					var cancel context.CancelFunc
					child, cancel = context.WithCancel(got)
					defer cancel()
				}
				switch when {
				case "deadline", "outer deadline":
					time.Sleep(limit)
				case "outer cancelled":
					cancelParent(outer)
				case "ended":
					end()
					got.end()
				case "ended and late":
					end()
					got.end()
					time.Sleep(limit)
				}
				synctest.Wait()
				wantAt, _ := want.Deadline()
				gotAt, ok := got.Deadline()
				if !ok || !gotAt.Equal(wantAt) {
					t.Errorf("%s, %s: the deadline is %v, want %v", name, when, gotAt, wantAt)
				}
				if got.Err() != want.Err() || context.Cause(got) != context.Cause(want) || got.Value(key{}) != 1 {
					t.Errorf("%s, %s: %v because of %v, want %v because of %v", name, when, got.Err(), context.Cause(got), want.Err(), context.Cause(want))
				}
				if child.Err() != want.Err() || context.Cause(child) != context.Cause(want) {
					t.Errorf("%s, %s: the child ended with %v, want %v", name, when, child.Err(), want.Err())
				}
				select {
				case <-got.Done():
					if want.Err() == nil {
						t.Errorf("%s, %s: done", name, when)
					}
				default:
					if want.Err() != nil {
						t.Errorf("%s, %s: not done", name, when)
					}
				}
			})
		}
	}
}
