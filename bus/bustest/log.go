package bustest

import (
	"sync"
	"testing"
)

// testLog writes to the log of a test for as long as the test runs; a handler that outlives it would make it panic.
type testLog struct {
	t    testing.TB
	mu   sync.Mutex
	open bool
}

// Write implements io.Writer.
func (l *testLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return len(line), nil
	}
	return l.t.Output().Write(line)
}

func (l *testLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = false
}

// errorLog knows the last error of each message and group.
type errorLog struct {
	mu   sync.Mutex
	last map[[2]string]error
}

func (l *errorLog) note(group, id string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		l.last = map[[2]string]error{}
	}
	l.last[[2]string{group, id}] = err
}

func (l *errorLog) of(group, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last[[2]string{group, id}]
}
