package transporttest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// recorder is a testing.TB whose failures are results.
type recorder struct {
	testing.TB
	ctx      context.Context
	mu       sync.Mutex
	failures []string
	skipped  string
	cleanups []func()
}

// rehearse runs f as a test of its own, and its cleanups.
func rehearse(tb testing.TB, f func(tb testing.TB)) *recorder {
	ctx, cancel := context.WithCancel(context.Background())
	r := &recorder{TB: tb, ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	cancel()
	for len(r.cleanups) > 0 {
		last := r.cleanups[len(r.cleanups)-1]
		r.cleanups = r.cleanups[:len(r.cleanups)-1]
		last()
	}
	return r
}

func (r *recorder) fail(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, text)
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

func (r *recorder) text() string { return strings.Join(r.failures, "\n") }

func (r *recorder) Helper()                        {}
func (r *recorder) Logf(string, ...any)            {}
func (r *recorder) Log(...any)                     {}
func (r *recorder) Context() context.Context       { return r.ctx }
func (r *recorder) Cleanup(f func())               { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, a ...any) { r.fail(fmt.Sprintf(format, a...)) }
func (r *recorder) Error(a ...any)                 { r.fail(fmt.Sprint(a...)) }
func (r *recorder) Fail()                          { r.fail("failed") }
func (r *recorder) FailNow()                       { r.Fail(); runtime.Goexit() }
func (r *recorder) Fatalf(format string, a ...any) { r.Errorf(format, a...); runtime.Goexit() }
func (r *recorder) Fatal(a ...any)                 { r.Error(a...); runtime.Goexit() }
func (r *recorder) Skipf(format string, a ...any) {
	r.skipped = fmt.Sprintf(format, a...)
	runtime.Goexit()
}
func (r *recorder) Skip(a ...any) { r.skipped = fmt.Sprint(a...); runtime.Goexit() }
func (r *recorder) SkipNow()      { r.skipped = "skipped"; runtime.Goexit() }
func (r *recorder) Skipped() bool { return r.skipped != "" }
