package middleware

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/postbus/postbus/bus"
)

// PanicError is a panic of what is inside of Recover. It unwraps to the value of the panic if that is an error, so that
// errors.Is and the verdicts of package bus see through it: panic(bus.Permanent(err)) goes to quarantine.
type PanicError struct {
	// Value is what panic was called with.
	Value any
	// Stack is the stack of the goroutine that panicked, as runtime/debug formats it.
	Stack []byte
}

// Error implements error: the value, and the stack on further lines.
func (p *PanicError) Error() string {
	return fmt.Sprintf("middleware: handler panicked: %v\n%s", p.Value, p.Stack)
}

// Unwrap returns the value of the panic if it is an error.
func (p *PanicError) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// Recover turns a panic into an error, a *PanicError. It belongs innermost, so that everything else sees the error.
//
// A handler that ends its goroutine (runtime.Goexit, FailNow of a test) has not panicked: the bus itself makes a
// bus.ErrGoexit of that. Nothing recovers from a panic in a goroutine that the handler has started, nor from a fatal
// error of the runtime such as running out of memory; Quarantined knows those by the count of deliveries.
func Recover() bus.Middleware {
	return func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = &PanicError{Value: p, Stack: debug.Stack()}
				}
			}()
			return next(ctx, d)
		}
	}
}
