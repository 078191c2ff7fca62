package quarantine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/transport"
)

// MetadataReplay is the key of the metadata by which a replayed message is known; its value names the replay.
const MetadataReplay = "postbus_replay"

const (
	// replayBatch is how many entries are claimed and published at once, at most, and replayBytes how many bytes of payload.
	replayBatch = 500
	replayBytes = 4 << 20
	// claimLease is for how long a replay may be on its way before its entries count as interrupted, and wait again.
	claimLease = 2 * time.Minute
	// publishTimeout bounds the publication of a batch, well below claimLease.
	publishTimeout = 30 * time.Second
	// noteTimeout bounds noting what was published, for what is not noted is published again.
	noteTimeout = time.Minute
	// releaseTimeout bounds what is done after the caller's context has ended.
	releaseTimeout = 5 * time.Second
	// maxErrors is how many reasons a Result has.
	maxErrors = 10
)

// ReplayOptions says how to replay.
type ReplayOptions struct {
	// Rate is how many entries a second are replayed, at most. It bounds with how many a parked key begins, too, but not those
	// that follow in its line: they come as fast as the group handles them, one at a time for each key. Default: no limit.
	Rate float64
	// Limit is how many entries are replayed, at most. Default: all that match.
	Limit int
	// Progress is called after each batch, with what was done so far. Default: nobody is told.
	Progress func(Result)
}

// Result is what a replay has done.
type Result struct {
	// Replayed entries were published.
	Replayed int
	// InLine entries are of parked keys: they are published one after the other, each when the one before it was handled.
	InLine int
	// Refused entries could not be published, and wait as before; Errors has the first few reasons.
	Refused int
	Errors  []error
}

// Replay publishes the messages of entries that wait, those that failed first first: each to the group that failed, and to
// no other. What was edited is sent as it was edited. A message keeps its ID, so that a handler that has handled it after
// all can know it, and its attempts begin anew. If it fails for good again it is the same entry that waits.
//
// Entries that fail while Replay runs are left alone. It may be interrupted at any point, by the end of ctx or a crash, and
// run again: entries that were on their way at a crash wait again after two minutes. If they were published already, they
// are published twice then, with the same ID. Of several calls at once, by several operators, each entry goes to one.
//
// Where the transport can tell (transport.StatusReporter), entries of a group that it does not know are refused, with
// ErrNoGroup. RabbitMQ refuses those of a group that has no queue if its URL says mandatory=true. Otherwise a message to a
// group that is gone is taken, and reaches nobody; the entry is kept for Config.ReplayedRetention.
//
// The error says why Replay has ended early; the Result tells what was done before.
func (s *Store) Replay(ctx context.Context, f Filter, o ReplayOptions) (Result, error) {
	r := replay{store: s, options: o, token: newToken()}
	if err := r.run(ctx, f); err != nil {
		return r.result, fmt.Errorf("quarantine: replay: %w", err)
	}
	return r.result, nil
}

// replay is one call of Replay.
type replay struct {
	store   *Store
	options ReplayOptions
	token   string
	groups  *groups
	next    time.Time // when the next batch may go
	result  Result
}

func (r *replay) run(ctx context.Context, f Filter) (err error) {
	s := r.store
	if err := s.Prepare(ctx); err != nil {
		return err
	}
	if s.cfg.Transport == nil {
		return errors.New("there is no transport to publish on: set Config.Transport")
	}
	if err := f.chosen(); err != nil {
		return err
	}
	if f.Status != Waiting {
		return fmt.Errorf("%w: entries that are %s; only those that are %s can be replayed", ErrStatus, f.Status, Waiting)
	}
	if now := time.UnixMilli(nowMS() + 1); f.Before.IsZero() || now.Before(f.Before) {
		f.Before = now // what fails from now on has a later time
	}
	if err := s.reclaim(ctx); err != nil {
		return err
	}
	if r.groups, err = groupsOf(ctx, s.cfg.Transport); err != nil {
		return err
	}
	for at := (cursor{}); ; {
		n, err := r.size(ctx)
		if err != nil || n <= 0 {
			return err
		}
		taken, err := s.claim(ctx, f, at, n, r.token, r.groups.check)
		if err != nil || !taken.any {
			return err
		}
		at = taken.last
		for _, c := range taken.refused {
			r.refuse(c, r.groups.check(c.topic, c.group))
		}
		r.result.InLine += len(taken.lined)
		if err := errors.Join(r.publish(ctx, taken.batch), s.drainAll(ctx, linesIn(taken.lined))); err != nil {
			return err
		}
		if r.options.Progress != nil {
			r.options.Progress(r.result)
		}
	}
}

// size waits until the rate allows for the next batch, and returns how many entries it may have.
func (r *replay) size(ctx context.Context) (int, error) {
	n := replayBatch
	if r.options.Limit > 0 {
		n = min(n, r.options.Limit-r.result.Replayed-r.result.InLine-r.result.Refused)
	}
	if rate := r.options.Rate; rate > 0 && n > 0 {
		n = min(n, max(1, int(rate/10)))
		timer := time.NewTimer(time.Until(r.next))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		r.next = time.Now().Add(time.Duration(float64(n) / rate * float64(time.Second)))
	}
	return n, ctx.Err()
}

// publish publishes what was claimed, and notes what has become of it.
func (r *replay) publish(ctx context.Context, batch []*claimed) error {
	s := r.store
	var sent, back []int64
	var trouble error // of the transport, after which there is no use to go on
	for len(batch) > 0 {
		topic := batch[0].topic
		var list []*claimed
		list, batch = split(batch, func(c *claimed) bool { return c.topic == topic })
		errs, err := make([]error, len(list)), trouble
		if trouble == nil {
			errs, err = s.publish(ctx, topic, list)
		}
		for i, c := range list {
			switch {
			case err != nil:
				trouble = err
				back = append(back, c.id)
			case errs[i] != nil:
				back = append(back, c.id)
				r.refuse(c, errs[i])
			default:
				sent = append(sent, c.id)
			}
		}
	}
	if err := s.point("published"); err != nil {
		return err
	}
	limit := noteTimeout
	if ctx.Err() != nil {
		limit = releaseTimeout
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if err := s.mark(ctx, sent, r.token); err != nil {
		return errors.Join(trouble, fmt.Errorf("%d messages were published and could not be noted; they wait again in %v: %w",
			len(sent), claimLease, err))
	}
	r.result.Replayed += len(sent)
	return errors.Join(trouble, s.release(ctx, back, r.token))
}

func (r *replay) refuse(c *claimed, err error) {
	r.result.Refused++
	if len(r.result.Errors) < maxErrors {
		r.result.Errors = append(r.result.Errors, fmt.Errorf("quarantine: entry %d: %w", c.id, err))
	}
}

// publish publishes entries of one topic. It returns an error of each, or one that speaks about the transport.
func (s *Store) publish(ctx context.Context, topic string, list []*claimed) ([]error, error) {
	msgs := make([]transport.Message, len(list))
	for i, c := range list {
		msgs[i] = c.message
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	err := s.cfg.Transport.Publish(ctx, topic, msgs)
	var partial *transport.PublishError
	switch {
	case err == nil:
		return make([]error, len(list)), nil
	case errors.As(err, &partial) && len(partial.Errs) == len(list):
		return partial.Errs, nil
	case len(list) == 1 && (errors.Is(err, transport.ErrTooLarge) || errors.Is(err, transport.ErrInvalid) || errors.Is(err, transport.ErrUnsupported)):
		return []error{err}, nil
	}
	return nil, err
}

// split returns those of a list of which it is true, and the others, each in their order.
func split[T any](list []T, is func(T) bool) (yes, no []T) {
	for _, v := range list {
		if is(v) {
			yes = append(yes, v)
		} else {
			no = append(no, v)
		}
	}
	return yes, no
}

// groups is what a transport knows of its groups; nil of one that does not tell.
type groups struct {
	known map[[2]string]bool // by topic and group
}

func groupsOf(ctx context.Context, t transport.Transport) (*groups, error) {
	reporter, ok := t.(transport.StatusReporter)
	if !ok {
		return nil, nil
	}
	all, err := reporter.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the transport for its groups: %w", err)
	}
	g := &groups{known: map[[2]string]bool{}}
	for _, status := range all {
		g.known[[2]string{status.Topic, status.Group}] = true
	}
	return g, nil
}

func (g *groups) check(topic, group string) error {
	if g != nil && !g.known[[2]string{topic, group}] {
		return fmt.Errorf("%w: group %q on topic %q", ErrNoGroup, group, topic)
	}
	return nil
}
