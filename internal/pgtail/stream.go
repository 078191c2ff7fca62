package pgtail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// LSN is a place in the write-ahead log.
type LSN = pglogrepl.LSN

const (
	// batchRows is how many rows Run hands over at once, at most.
	batchRows = 1000
	// pendingBytes is how much may wait to be handed over before Run stops reading.
	pendingBytes = 16 << 20
)

// Run reads until ctx ends or something fails, and returns why. Once it has the slot it calls begin, and then handle with
// batch after batch, in the order of commits. Transactions that handle returned nil for are not read again by a later
// Run; the rows of others are, among them those of one that was too large for a batch and not handed over to its end. If
// another process has the slot, the error matches ErrBusy.
func (t *Tail) Run(ctx context.Context, begin func(context.Context) error, handle func(context.Context, []Row) error) error {
	conn, err := t.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(late)
	}()
	starting, began := context.WithTimeout(ctx, askTimeout)
	err = pglogrepl.StartReplication(starting, conn, t.cfg.Name, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names '" + t.cfg.Name + "'"},
	})
	began()
	if err != nil {
		return t.busy(err)
	}
	s := &stream{conn: conn, silence: t.silence, relations: map[uint32]*pglogrepl.RelationMessage{}}
	s.changed = sync.NewCond(&s.mu)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(s.hand(ctx, begin, handle)) })
	defer wg.Wait()
	defer context.AfterFunc(ctx, s.wake)()
	err = s.read(ctx)
	cancel(err)
	wg.Wait()
	if s.settled() { // a clean stop leaves nothing to read again
		_ = s.status(context.WithoutCancel(ctx))
	}
	return context.Cause(ctx)
}

// stream is one connection of Run. One goroutine reads and another hands over.
type stream struct {
	conn      *pgconn.PgConn
	relations map[uint32]*pglogrepl.RelationMessage
	at        LSN  // of the transaction that is being read
	open      bool // one is
	heard     time.Time
	silence   time.Duration // after it the server is given up

	mu        sync.Mutex
	changed   *sync.Cond
	pending   []Row
	ends      int // of transactions, in pending
	bytes     int
	handling  bool
	flushed   LSN // all before it is handled
	reported  LSN // what the server was told
	interrupt context.CancelFunc
}

// wake ends waits on changed, and a wait for the server.
func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
	if s.interrupt != nil {
		s.interrupt()
	}
}

// hand gives batches to handle.
func (s *stream) hand(ctx context.Context, begin func(context.Context) error, handle func(context.Context, []Row) error) error {
	if err := begin(ctx); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		for !s.ready() && ctx.Err() == nil {
			s.changed.Wait()
		}
		batch := s.batch()
		s.pending, s.handling = s.pending[len(batch):], true
		s.mu.Unlock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rows := make([]Row, 0, len(batch))
		size, end := 0, LSN(0)
		for _, r := range batch {
			if size += r.size(); r.end != 0 {
				end = r.end
			} else {
				rows = append(rows, r)
			}
		}
		if len(rows) > 0 {
			if err := handle(ctx, rows); err != nil {
				return err
			}
		}
		s.mu.Lock()
		s.handling = false
		s.bytes -= size
		s.flushed = max(s.flushed, end)
		s.mu.Unlock()
		s.wake()
	}
}

// ready reports whether there is a batch; s.mu is held. A transaction that fits into one waits for its end, or it would be
// read again if the reading ended in between.
func (s *stream) ready() bool {
	return s.ends > 0 || len(s.pending) > batchRows || s.bytes > pendingBytes
}

// batch returns what is handed over next, whole transactions or else a part of one; s.mu is held.
func (s *stream) batch() []Row {
	n := min(batchRows, len(s.pending))
	for i, r := range s.pending[:min(batchRows+1, len(s.pending))] {
		if r.end != 0 {
			n = i + 1
			s.ends--
		}
	}
	return s.pending[:n]
}

// settled reports whether there is something to tell the server.
func (s *stream) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flushed > s.reported
}

// read takes what the server sends, and tells it what is handled.
func (s *stream) read(ctx context.Context) error {
	next := time.Now()
	s.heard = next
	for ctx.Err() == nil {
		if time.Since(s.heard) > s.silence {
			return fmt.Errorf("the server has said nothing for %v", s.silence)
		}
		if s.settled() || !time.Now().Before(next) {
			if err := s.status(ctx); err != nil {
				return err
			}
			next = time.Now().Add(statusEvery)
		}
		wait, cancel := context.WithDeadline(ctx, next)
		s.mu.Lock()
		s.interrupt = cancel
		full, news := s.bytes > pendingBytes, s.flushed > s.reported
		s.mu.Unlock()
		switch {
		case news:
		case full:
			<-wait.Done()
			s.heard = time.Now() // nobody listened
		default:
			if err := s.receive(wait); err != nil && wait.Err() == nil && !pgconn.Timeout(err) {
				cancel()
				return err
			}
		}
		cancel()
	}
	return ctx.Err()
}

// receive takes one message.
func (s *stream) receive(ctx context.Context) error {
	raw, err := s.conn.ReceiveMessage(ctx)
	if err != nil {
		return err
	}
	s.heard = time.Now()
	switch m := raw.(type) {
	case *pgproto3.ErrorResponse:
		return pgconn.ErrorResponseToPgError(m)
	case *pgproto3.CopyDone:
		return errors.New("the server ended the replication")
	case *pgproto3.CopyData:
		switch m.Data[0] {
		case pglogrepl.PrimaryKeepaliveMessageByteID:
			k, err := pglogrepl.ParsePrimaryKeepaliveMessage(m.Data[1:])
			if err != nil {
				return err
			}
			s.idle(k.ServerWALEnd)
			if k.ReplyRequested {
				return s.status(ctx)
			}
		case pglogrepl.XLogDataByteID:
			x, err := pglogrepl.ParseXLogData(m.Data[1:])
			if err != nil {
				return err
			}
			return s.take(bytes.Clone(x.WALData)) // the connection reads the next into the same memory
		}
	}
	return nil
}

// idle notes how far the server has come without anything for us, so that it need not keep its log up to there.
func (s *stream) idle(end LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open && !s.handling && len(s.pending) == 0 {
		s.flushed = max(s.flushed, end)
	}
}

// take decodes a message of pgoutput.
func (s *stream) take(data []byte) error {
	m, err := pglogrepl.Parse(data)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *pglogrepl.RelationMessage:
		s.relations[m.RelationID] = m
	case *pglogrepl.BeginMessage:
		s.at, s.open = m.FinalLSN, true
	case *pglogrepl.InsertMessage:
		relation := s.relations[m.RelationID]
		if relation == nil {
			return fmt.Errorf("an insert into relation %d, of which the server has not told", m.RelationID)
		}
		s.push(Row{LSN: s.at, relation: relation, tuple: m.Tuple})
	case *pglogrepl.CommitMessage:
		s.open = false
		s.push(Row{end: m.TransactionEndLSN})
	}
	return nil
}

func (s *stream) push(r Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, r)
	s.bytes += r.size()
	if r.end != 0 {
		s.ends++
	}
	if s.ready() {
		s.changed.Signal()
	}
}

// status tells the server what is handled.
func (s *stream) status(ctx context.Context) error {
	s.mu.Lock()
	at := s.flushed
	s.mu.Unlock()
	err := pglogrepl.SendStandbyStatusUpdate(ctx, s.conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: at, ReplyRequested: true})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.reported = at
	}
	return err
}

// Row is an inserted row.
type Row struct {
	// LSN is that of the commit.
	LSN LSN

	relation *pglogrepl.RelationMessage
	tuple    *pglogrepl.TupleData
	end      LSN // of the transaction, if this is no row but the end of one
}

// Text returns the value of a column as PostgreSQL prints it; nil if it is NULL, or if there is no such column.
func (r Row) Text(column string) []byte {
	for i, c := range r.relation.Columns {
		if c.Name == column && i < len(r.tuple.Columns) && r.tuple.Columns[i].DataType == pglogrepl.TupleDataTypeText {
			return r.tuple.Columns[i].Data
		}
	}
	return nil
}

// rowOverhead is what a row takes in memory beside its values.
const rowOverhead = 200

func (r Row) size() int {
	n := rowOverhead
	if r.tuple != nil {
		for _, c := range r.tuple.Columns {
			n += len(c.Data)
		}
	}
	return n
}
