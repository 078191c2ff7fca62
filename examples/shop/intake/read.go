package intake

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

// MaxLine is the length in bytes beyond which a line is not put on the bus: no order is that long, and what is may be
// no text at all and have no end.
const MaxLine = 16 << 20

// ErrTooLong: the line is longer than MaxLine.
var ErrTooLong = fmt.Errorf("longer than %d MiB", MaxLine>>20)

// MetadataLine is the metadata under which the number of the line travels.
const MetadataLine = "line"

// Feed puts the lines of an input on the bus.
type Feed struct {
	Events bus.Publisher
	// Pace is the pause after each line. Default: none.
	Pace time.Duration
	// Known, if set, reports whether a line is on the bus, from an earlier run; it is passed over.
	Known func(id string) bool
	// Fed, if set, is called when a line is on the bus, or refused.
	Fed func(id string)
	// Read is called for each line before it is published. Empty lines do not count.
	Read func()
	// Refused is called for each line that cannot travel: it is too long, or the transport does not take it.
	Refused func(number int, text []byte, err error)
}

// Run publishes the lines of r until its end, or until ctx ends. If r then blocks in Read, the goroutine that reads is
// left behind: nothing else can end the reading of a terminal.
func (f *Feed) Run(ctx context.Context, r io.Reader) error {
	lines, failed := make(chan numbered), make(chan error, 1)
	go func() {
		defer close(lines)
		failed <- scan(ctx, r, lines)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case l, more := <-lines:
			if !more {
				return <-failed
			}
			if err := f.publish(ctx, l); err != nil {
				return err
			}
		}
	}
}

func (f *Feed) publish(ctx context.Context, l numbered) error {
	if f.Known != nil && f.Known(l.id()) {
		return nil
	}
	f.Read()
	err := l.err
	if err == nil {
		event := l.event() // its ID tells a second copy from another line
		for err = f.Events.Publish(ctx, event); errors.Is(err, transport.ErrOutcomeUnknown) && pause(ctx, again); {
			err = f.Events.Publish(ctx, event)
		}
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrTooLong), errors.Is(err, transport.ErrTooLarge), errors.Is(err, transport.ErrInvalid):
		f.Refused(l.number, l.text, err)
	default:
		return fmt.Errorf("line %d: %w", l.number, err)
	}
	if f.Fed != nil {
		f.Fed(l.id())
	}
	if !pause(ctx, f.Pace) {
		return ctx.Err()
	}
	return nil
}

// again is the pause before a line is published once more, because nobody knows whether it was published: the broker went
// away before it confirmed.
const again = 100 * time.Millisecond

// pause reports whether it lasted for d; ctx ended otherwise.
func pause(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// numbered is a line with its place in the input; err says why it cannot travel.
type numbered struct {
	number int
	text   []byte
	err    error
}

// id is the same whenever the same input is read.
func (l numbered) id() string {
	return fmt.Sprintf("line-%d-%x", l.number, sha256.Sum256(l.text))[:5+len(strconv.Itoa(l.number))+1+16]
}

// event is the line as an event.
func (l numbered) event() bus.Event {
	return bus.WithID(l.id(), bus.WithMetadata(map[string]string{MetadataLine: strconv.Itoa(l.number)}, Line{l.text}))
}

// scan splits r into lines: at LF or CRLF, a byte order mark at the start dropped, the last line with or without its
// end. Lines of white space alone are counted in the numbers and left out.
func scan(ctx context.Context, r io.Reader, to chan<- numbered) error {
	in := bufio.NewReaderSize(r, 64<<10)
	if mark, _ := in.Peek(3); string(mark) == "\ufeff" {
		_, _ = in.Discard(3)
	}
	for number := 1; ; number++ {
		text, err := readLine(in)
		line := numbered{number: number, text: text}
		if errors.Is(err, ErrTooLong) {
			line.err, err = err, nil
		}
		if len(bytes.TrimSpace(text)) > 0 {
			select {
			case to <- line:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after line %d: %w", number-1, err)
		}
	}
}

// readLine returns the next line in memory of its own. Of one that is too long it returns the beginning, and skips the
// rest without keeping it.
func readLine(in *bufio.Reader) (text []byte, err error) {
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return nil, err
		}
		if !long {
			text = append(text, part...)
			long = len(bytes.TrimRight(text, "\r\n")) > MaxLine
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if long {
			return text[:1<<10], ErrTooLong // an end of the input, if that is what came, comes again
		}
		text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
		return text, err
	}
}
