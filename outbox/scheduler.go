package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/postbus/postbus/bus"
)

// Scheduler publishes recurring events through a Box: each tick once, however many instances run, for it is a row of the
// database that says which tick is next, and it changes in the transaction that publishes. Its methods may be called
// concurrently.
type Scheduler struct {
	box  *Box
	list []*recurring

	mu     sync.Mutex
	cancel context.CancelFunc
	done   chan struct{}
}

// NewScheduler makes a Scheduler; it does no I/O. The error names every mistake.
func NewScheduler(box *Box, schedules ...Recurring) (*Scheduler, error) {
	if box == nil {
		return nil, fmt.Errorf("outbox: %w: the Box of the Scheduler is missing", bus.ErrInvalid)
	}
	s := &Scheduler{box: box}
	var errs []error
	names := map[string]bool{}
	for _, r := range schedules {
		c, err := r.check()
		if err == nil && names[r.Name] {
			err = fmt.Errorf("%w: two schedules are named %q", bus.ErrInvalid, r.Name)
		}
		names[r.Name] = true
		errs = append(errs, err)
		s.list = append(s.list, c)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return s, nil
}

// Start looks at all schedules, publishes what is due and goes on until Stop. Its context bounds starting only. A failed
// Start leaves nothing running.
func (s *Scheduler) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done != nil {
		return fmt.Errorf("outbox: %w: the Scheduler was started before", bus.ErrInvalid)
	}
	for _, r := range s.list {
		if err := s.box.fire(ctx, r); err != nil {
			return err
		}
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel, s.done = cancel, make(chan struct{})
	go s.loop(run)
	return nil
}

// Stop ends the Scheduler and waits for it. It may be called at any time, also before Start and more than once.
func (s *Scheduler) Stop(ctx context.Context) error {
	s.mu.Lock()
	cancel, done := s.cancel, s.done
	s.mu.Unlock()
	if done == nil {
		return nil
	}
	cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run is Start, and Stop when ctx ends.
func (s *Scheduler) Run(ctx context.Context) error { return between(ctx, s.Start, s.Stop) }

// between has something run until ctx ends.
func between(ctx context.Context, start, stop func(context.Context) error) error {
	if err := start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return stop(context.WithoutCancel(ctx))
}

const (
	// scheduleRetry is the pause after an error.
	scheduleRetry = time.Second
	// fireTimeout bounds one look at a schedule, for the connection can have fallen silent.
	fireTimeout = 5 * time.Second
)

func (s *Scheduler) loop(ctx context.Context) {
	defer close(s.done)
	for {
		wake := time.Now().Add(longestSleep)
		for _, r := range s.list {
			if r.wake.Before(wake) {
				wake = r.wake
			}
		}
		timer := time.NewTimer(time.Until(wake))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		for _, r := range s.list {
			if time.Now().Before(r.wake) {
				continue
			}
			firing, cancel := context.WithTimeout(ctx, fireTimeout)
			err := s.box.fire(firing, r)
			cancel()
			if err != nil && ctx.Err() == nil {
				s.box.cfg.Logger.Warn("outbox: a recurring event is late", "error", err)
				r.wake = time.Now().Add(scheduleRetry)
				if bus.IsPermanent(err) {
					r.wake = time.Now().Add(longestSleep)
				}
			}
		}
	}
}
