package sqllog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/transport"
)

const (
	// tailBatch is how many messages a tail reads at once.
	tailBatch = 200
	// tailPause is how long it waits when there are none.
	tailPause = 200 * time.Millisecond
)

// Tail calls f with what is published to the topic; see transport.Tailer.
func (l *Log) Tail(ctx context.Context, topic string, start transport.Start, f func(m *transport.Message) error) error {
	var known string
	q := l.d.Bind("SELECT topic FROM postbus_topics WHERE topic = ?")
	err := l.db.QueryRowContext(ctx, q, topic).Scan(&known)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w: nothing was published to it, and no group has joined it", transport.ErrNoTopic)
	}
	var t *Topic
	if err == nil {
		t, err = l.topic(ctx, topic)
	}
	var after Pos
	var skip []Pos
	if err == nil {
		after, skip, err = l.startAt(ctx, t, start)
	}
	if err != nil {
		return l.errorf("tail %q: %w", topic, err)
	}
	had := map[Pos]bool{}
	for _, p := range skip {
		had[p] = true
	}
	for {
		rows, _, err := l.d.Read(ctx, t, after, NoBound, tailBatch)
		if err != nil {
			return l.errorf("tail %q: %w", topic, err)
		}
		for i := range rows {
			after = rows[i].Pos
			if had[after] {
				continue
			}
			if err := f(decode(&rows[i])); err != nil {
				return err
			}
		}
		if len(rows) > 0 {
			continue
		}
		select {
		case <-time.After(tailPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
