package sqllog

import (
	"context"
	"time"

	"github.com/postbus/postbus/internal/wire"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

const (
	// txNotice is the least time between two notices of one topic that go along with transactions of callers. The server
	// lets transactions with notices commit one after the other; and who hears one looks several times.
	txNotice = 10 * time.Millisecond
	// txLately is for how long after a publication within a caller's transaction its commit is looked for eagerly.
	txLately = time.Second
)

// PublishTx appends msgs within the caller's transaction: they are seen when it commits. All messages must be good. A
// message that is not is an error before the transaction is used.
//
// Nobody tells when the caller commits. The consumers of this process look from now on, first often and then ever more
// rarely; those of others hear of it with the commit, where the database has notices, or poll.
func (l *Log) PublishTx(ctx context.Context, tx store.Execer, topic string, msgs []transport.Message) error {
	if len(msgs) == 0 {
		return transport.CheckName("topic", topic)
	}
	req, failed, err := l.prepare(ctx, topic, msgs, func(ctx context.Context, name string) (*Topic, error) { return l.topicIn(ctx, tx, name) })
	if err == nil && failed != nil {
		if err = failed[0]; len(msgs) > 1 {
			err = &transport.PublishError{Errs: failed}
		}
	}
	if err != nil {
		return l.publishError(topic, err)
	}
	for _, s := range req.steps {
		if err := l.d.AppendTx(ctx, tx, s); err != nil {
			return l.publishError(topic, l.typed(err))
		}
	}
	l.Expect(topic)
	l.duesSoon(req)
	if n, ok := l.d.(txNotifier); ok && l.noticeInTx(topic) {
		if err := n.NotifyTx(ctx, tx, topic); err != nil {
			return l.publishError(topic, err)
		}
	}
	return nil
}

// txPreparer is a Dialect of a database that makes tables within transactions, and would wait for the caller's if it
// made them outside of it.
type txPreparer interface {
	PrepareTx(ctx context.Context, tx store.Execer, t *Topic) error
}

// txNotifier is a Dialect whose notices can go along with a transaction.
type txNotifier interface {
	NotifyTx(ctx context.Context, tx store.Execer, text string) error
}

// topicIn is topic for who is within a transaction.
func (l *Log) topicIn(ctx context.Context, tx store.Execer, name string) (*Topic, error) {
	p, ok := l.d.(txPreparer)
	if !ok {
		return l.topic(ctx, name)
	}
	l.mu.Lock()
	t, closed := l.topics[name], l.closed
	l.mu.Unlock()
	if closed {
		return nil, transport.ErrClosed
	}
	if t != nil {
		return t, nil
	}
	// It is not remembered, for the transaction can be rolled back, and the tables with it.
	t = &Topic{Name: name}
	t.Messages, t.Offsets = TableNames(name, l.d.UpperCase())
	return t, p.PrepareTx(ctx, tx, t)
}

// noticeInTx reports whether a notice for topic is to go along.
func (l *Log) noticeInTx(topic string) bool {
	l.noticesMu.Lock()
	defer l.noticesMu.Unlock()
	now := time.Now()
	if now.Sub(l.txNotices[topic]) < txNotice {
		return false
	}
	l.txNotices[topic] = now
	return true
}

// Expect has consumers of topic look often for a while: messages for it are written in a transaction that is not over.
func (l *Log) Expect(topic string) {
	l.txAt.Store(time.Now().UnixNano())
	l.hub.wake(topic)
}

// Wake has consumers of topic look now: a transaction that PublishTx was called with has committed.
func (l *Log) Wake(topic string) { l.hub.wake(topic) }

// Prepare makes the tables of a topic, unless they are there.
func (l *Log) Prepare(ctx context.Context, topic string) error {
	if err := transport.CheckName("topic", topic); err != nil {
		return err
	}
	if _, err := l.topic(ctx, topic); err != nil {
		return l.errorf("prepare %q: %w", topic, err)
	}
	return nil
}

// Join makes a topic, and a group that begins at its first message, unless they are there.
func (l *Log) Join(ctx context.Context, topic, group string) error {
	if err := l.Prepare(ctx, topic); err != nil {
		return err
	}
	t, err := l.topic(ctx, topic)
	if err == nil {
		err = l.join(ctx, t, &transport.SubscribeConfig{Topic: topic, Group: group})
	}
	if err != nil {
		return l.errorf("join %q to %q: %w", group, topic, err)
	}
	return nil
}

// Cancel removes the messages with the id that are for later and for all groups, unless they are due and on their way.
// It reports whether there were any.
func (l *Log) Cancel(ctx context.Context, q store.Execer, id string) (bool, error) {
	if q == nil {
		q = l.db
		defer l.d.Writing()()
	}
	uuid := wire.UUID(id, uuidLength)
	res, err := q.ExecContext(ctx, l.d.Bind("DELETE FROM postbus_later WHERE uuid = ? AND grp = ''"), uuid)
	if err != nil {
		return false, l.errorf("cancel %q: %w", id, err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}
