package rabbitmq

import (
	"net"
	"sync"
	"time"
)

// corkSize is how many bytes a corked socket holds before it writes nevertheless.
const corkSize = 64 << 10

// socket lets many small writes of amqp091-go, which flushes after each message, reach the kernel as one. While it is
// corked, writes are kept; the last uncork writes them.
type socket struct {
	net.Conn
	stall time.Duration // how long one write may take; 0 is no limit

	mu    sync.Mutex
	corks int
	buf   []byte
	err   error // of the first write that failed; the connection is of no use after it
}

func (s *socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.corks == 0 && len(s.buf) == 0 {
		return len(p), s.flush(p)
	}
	s.buf = append(s.buf, p...)
	if s.corks > 0 && len(s.buf) < corkSize {
		return len(p), s.err
	}
	return len(p), s.flushBuffer()
}

// limit bounds how long one write may take; a write that takes longer breaks the connection.
func (s *socket) limit(d time.Duration) {
	s.mu.Lock()
	s.stall = d
	s.mu.Unlock()
}

// cork keeps writes until uncork has been called as often.
func (s *socket) cork() {
	s.mu.Lock()
	s.corks++
	s.mu.Unlock()
}

func (s *socket) uncork() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.corks--; s.corks == 0 && len(s.buf) > 0 && s.flushBuffer() != nil {
		s.Conn.Close() // the reader of amqp091-go notices, and nobody else would: its own writes seemed to succeed
	}
}

func (s *socket) flushBuffer() error {
	err := s.flush(s.buf)
	if s.buf = s.buf[:0]; cap(s.buf) > 4*corkSize {
		s.buf = nil // a large message passed
	}
	return err
}

func (s *socket) flush(p []byte) error {
	if s.err != nil {
		return s.err
	}
	if s.stall > 0 {
		if err := s.SetWriteDeadline(time.Now().Add(s.stall)); err != nil {
			s.err = err
			return err
		}
	}
	_, s.err = s.Conn.Write(p)
	return s.err
}
