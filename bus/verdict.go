package bus

import (
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/transport"
)

// Errors that the bus itself returns or hands to middleware, to be matched with errors.Is.
var (
	// ErrNotStarted: Publish was called before Start.
	ErrNotStarted = errors.New("bus: not started")
	// ErrStopped: Publish or Start was called after Stop.
	ErrStopped = errors.New("bus: stopped")
	// ErrInvalid: the event, the wiring or the configuration cannot be used. It matches what package transport finds
	// invalid, too.
	ErrInvalid = errors.New("bus: invalid")
	// ErrNoName: the message has no event name, as those of foreign publishers may. Permanent.
	ErrNoName = errors.New("bus: message has no event name")
	// ErrVersion: the group handles the event, but neither in this schema version nor by upcasting it. Permanent.
	ErrVersion = errors.New("bus: no handler for this version of the event")
	// ErrDecode: the payload cannot be decoded into what the handler takes. Permanent.
	ErrDecode = errors.New("bus: payload cannot be decoded")
	// ErrGoexit: the handler ended its goroutine (runtime.Goexit, or FailNow of a test that is over).
	ErrGoexit = errors.New("bus: handler ended its goroutine")
)

// invalid makes an error match ErrInvalid.
type invalid struct{ error }

func (e invalid) Is(target error) bool { return target == ErrInvalid }
func (e invalid) Unwrap() error        { return e.error }

// asInvalid makes err match ErrInvalid if it matches transport.ErrInvalid.
func asInvalid(err error) error {
	if errors.Is(err, transport.ErrInvalid) {
		return invalid{err}
	}
	return err
}

// Permanent marks err as one that no repetition can mend: the message goes to quarantine at once. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

// IsPermanent reports whether err, or an error that it wraps, was marked by Permanent.
func IsPermanent(err error) bool {
	var p *permanent
	return errors.As(err, &p)
}

type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }

// SetAside marks err as one whose message is safe elsewhere, as in a quarantine: the delivery is acknowledged, although
// it was not handled. What is further outside in the chain sees the error. SetAside(nil) is nil.
func SetAside(err error) error {
	if err == nil {
		return nil
	}
	return &setAside{err}
}

// IsSetAside reports whether err, or an error that it wraps, was marked by SetAside.
func IsSetAside(err error) bool {
	var s *setAside
	return errors.As(err, &s)
}

type setAside struct{ err error }

func (s *setAside) Error() string { return s.err.Error() }
func (s *setAside) Unwrap() error { return s.err }

// RetryAfter marks err as one after which the message shall come again, but not before d. RetryAfter(d, nil) is nil.
//
// A message that is to come again after more than a second leaves the group until then, if the transport has the
// capabilities Delay and Target: it holds no worker and no place in Prefetch, and later messages of its key overtake it.
// With GroupConfig.KeepOrder, and after a shorter delay, it waits in its place, and its key with it.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &retryAfter{d, err}
}

// RetryDelay returns the delay that RetryAfter has put on err or on an error that it wraps, and whether it did.
func RetryDelay(err error) (time.Duration, bool) {
	var r *retryAfter
	if !errors.As(err, &r) {
		return 0, false
	}
	return r.delay, true
}

type retryAfter struct {
	delay time.Duration
	err   error
}

func (r *retryAfter) Error() string { return fmt.Sprintf("%v (again after %v)", r.err, r.delay) }
func (r *retryAfter) Unwrap() error { return r.err }
