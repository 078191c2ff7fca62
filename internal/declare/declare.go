// Package declare knows where a program declares its wiring: the place that errors name.
package declare

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const module = "github.com/postbus/postbus/"

// onBehalf begins the names of functions that declare on behalf of their callers: packages of this module that wire, and
// what fx calls constructors with.
var onBehalf = [...]string{
	module + "bus.", module + "bus/busfx.", module + "outbox.", module + "outbox/outboxfx.", module + "saga.",
	module + "saga/sagafx.", module + "internal/declare.", "go.uber.org/fx.", "go.uber.org/fx/", "go.uber.org/dig.",
	"go.uber.org/dig/", "reflect.",
}

// Place returns the file and line of the nearest caller that does not declare on behalf of another.
func Place() string {
	pcs := make([]uintptr, 32)
	n := runtime.Callers(2, pcs)
	for n == len(pcs) {
		pcs = make([]uintptr, 2*len(pcs))
		n = runtime.Callers(2, pcs)
	}
	frames := runtime.CallersFrames(pcs[:n])
	for {
		f, more := frames.Next()
		ours := slices.ContainsFunc(onBehalf[:], func(prefix string) bool { return strings.HasPrefix(f.Function, prefix) })
		if !ours || strings.HasSuffix(f.File, "_test.go") || !more {
			return fmt.Sprintf("%s:%d", f.File, f.Line)
		}
	}
}

// Places holds, by bus, the place of declarations that are made later than they were written down. Its zero value is
// ready; it may be used concurrently.
type Places struct {
	mu    sync.Mutex
	place string
}

// Now returns the place that At is declaring for, or else that of the caller.
func (p *Places) Now() string {
	p.mu.Lock()
	place := p.place
	p.mu.Unlock()
	if place == "" {
		return Place()
	}
	return place
}

// At runs f, whose declarations were written down at place. Package bus sets it to do so for a *bus.Bus.
var At func(bus any, place string, f func())

// Run is At for the bus that p belongs to.
func (p *Places) Run(place string, f func()) {
	set := func(place string) {
		p.mu.Lock()
		p.place = place
		p.mu.Unlock()
	}
	set(place)
	defer set("")
	f()
}

var names atomic.Int64

// Name returns a tag of fx for one value among others of its type, another one each time.
func Name(of string) string { return fmt.Sprintf(`name:"postbus.%s.%d"`, of, names.Add(1)) }
