package bustest_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
)

// fakeT is a test that may fail. It keeps what it is told.
type fakeT struct {
	testing.TB
	mu       sync.Mutex
	failures []string
	logs     []string
	cleanups []func()
}

type endOfTest struct{}

// attempt runs f as a test of its own, its cleanups included, in the caller's bubble if there is one.
func attempt(t testing.TB, f func(t testing.TB)) *fakeT {
	t.Helper()
	fake := &fakeT{TB: t}
	func() {
		defer func() {
			if v := recover(); v != nil && v != (endOfTest{}) {
				panic(v)
			}
		}()
		f(fake)
	}()
	for _, cleanup := range slices.Backward(fake.cleanups) {
		cleanup()
	}
	return fake
}

func (f *fakeT) failed() string { return strings.Join(f.failures, "\n") }
func (f *fakeT) logged() string { return strings.Join(f.logs, "\n") }

func (f *fakeT) Helper()           {}
func (f *fakeT) Cleanup(c func())  { f.cleanups = append(f.cleanups, c) }
func (f *fakeT) Output() io.Writer { return io.Discard }

func (f *fakeT) Failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.failures) > 0
}

func (f *fakeT) Logf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs = append(f.logs, fmt.Sprintf(format, args...))
}

func (f *fakeT) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}

func (f *fakeT) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	panic(endOfTest{})
}

func (f *fakeT) Fatal(args ...any) { f.Fatalf("%s", fmt.Sprint(args...)) }

// contains fails the test unless text has all parts.
func contains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in: %s", part, text)
		}
	}
}
