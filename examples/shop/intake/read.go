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

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/describe/describefx"
	"github.com/postbus/postbus/examples/shop/tables"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// MaxLine is the length in bytes beyond which a line is not put on the bus: no order is that long, and what is may be
// no text at all and have no end.
const MaxLine = 16 << 20

// ErrTooLong: the line is longer than MaxLine.
var ErrTooLong = fmt.Errorf("longer than %d MiB", MaxLine>>20)

// MetadataLine is the metadata under which the number of the line travels.
const MetadataLine = "line"

// Module is the intake in an application.
var Module = fx.Module("intake", fx.Provide(New), describefx.Publishes("intake", Line{}))

// Feed puts the lines of an input on the bus.
type Feed struct {
	// Pace is the pause after each line. Default: none.
	Pace time.Duration

	box *outbox.Box
}

// New makes the feed, and its table when the application starts.
func New(lc fx.Lifecycle, db *store.DB, box *outbox.Box) *Feed {
	tables.Create(lc, db, `create table if not exists shop_lines (id varchar(64) primary key, number int, refused text)`)
	return &Feed{box: box}
}

// Run publishes the lines of r until its end, or until ctx ends. If r then blocks in Read, the goroutine that reads is
// left behind: nothing else can end the reading of a terminal.
func (f *Feed) Run(ctx context.Context, r io.Reader) error {
	lines, failed := make(chan numbered, batch), make(chan error, 1)
	go func() {
		defer close(lines)
		failed <- scan(ctx, r, lines)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case first, more := <-lines:
			if !more {
				return <-failed
			}
			news, err := f.publish(ctx, f.together(first, lines))
			if err != nil {
				return err
			}
			if news && !pause(ctx, f.Pace) {
				return ctx.Err()
			}
		}
	}
}

// batch is how many lines are published in one transaction, at most.
const batch = 100

// together returns a line and those that can be published with it.
func (f *Feed) together(first numbered, more <-chan numbered) []numbered {
	all := []numbered{first}
	for f.Pace == 0 && len(all) < batch {
		select {
		case l, ok := <-more:
			if !ok {
				return all
			}
			all = append(all, l)
		default:
			return all
		}
	}
	return all
}

// publish puts lines on the bus, and notes in the same transaction that they are there: a line that is read again, after a
// kill, is passed over. One that cannot travel is noted alone. It reports whether any line is new.
func (f *Feed) publish(ctx context.Context, lines []numbered) (news bool, err error) {
	err = f.box.Tx(ctx, func(tx *outbox.Tx) error {
		var events []bus.Event
		for _, l := range lines {
			refused := ""
			if l.err != nil {
				refused = "cannot travel: " + l.err.Error()
			}
			first, err := tables.Insert(ctx, tx, `shop_lines (id, number, refused)`, l.id(), l.number, refused)
			if err != nil {
				return err
			}
			news = news || first
			if first && l.err == nil {
				events = append(events, l.event())
			}
		}
		return tx.Publish(ctx, events...)
	})
	switch unfit := errors.Is(err, transport.ErrTooLarge) || errors.Is(err, transport.ErrInvalid); {
	case unfit && len(lines) == 1:
		lines[0].err = err
		return f.publish(ctx, lines)
	case unfit:
		for _, l := range lines {
			if _, err := f.publish(ctx, []numbered{l}); err != nil {
				return news, err
			}
		}
	case err != nil:
		return news, fmt.Errorf("line %d: %w", lines[0].number, err)
	}
	return news, nil
}

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
