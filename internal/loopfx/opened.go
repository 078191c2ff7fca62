package loopfx

import (
	"errors"
	"slices"

	"go.uber.org/fx"
)

// Opened is what constructors of an application have opened: fx runs no stop hook of one that it could not build.
type Opened struct{ close []func() error }

// CloseAtStop has f called at the stop of the application, or by Close. A nil Opened does without Close.
func (o *Opened) CloseAtStop(lc fx.Lifecycle, f func() error) {
	lc.Append(fx.StopHook(f))
	if o != nil {
		o.close = append(o.close, f)
	}
}

// Close closes what is open, of an application that will not start: the last first.
func (o *Opened) Close() error {
	var errs []error
	for _, f := range slices.Backward(o.close) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}
