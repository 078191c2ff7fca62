package testservices

import (
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// Silencer stands between a program and a server. Its connections can fall silent, as those to a machine do that has lost
// its power: what is sent on them gets no answer, and no end.
type Silencer struct {
	// URL is that of the server, by way of the Silencer.
	URL string

	listener net.Listener
	target   string
	wg       sync.WaitGroup
	mu       sync.Mutex
	said     atomic.Int64
	silent   chan struct{} // closed to silence the connections that were made with it
	conns    []net.Conn
	closed   bool
}

// NewSilencer returns one to the server that rawURL names, which ends with the test.
func NewSilencer(t testing.TB, rawURL string) *Silencer {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	s := &Silencer{target: u.Host, silent: make(chan struct{})}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u.Host = s.listener.Addr().String()
	s.URL = u.String()
	s.wg.Go(s.accept)
	t.Cleanup(s.Close)
	return s
}

// Said returns how often the server has said something.
func (s *Silencer) Said() int { return int(s.said.Load()) }

// Close cuts all connections. Those who close theirs need not wait for the silent ones then.
func (s *Silencer) Close() {
	_ = s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Silence has the connections that there are fall silent, for good; those that are made from now on work.
func (s *Silencer) Silence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.silent)
	s.silent = make(chan struct{})
}

func (s *Silencer) accept() {
	for {
		client, err := s.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", s.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		s.mu.Lock()
		silent, closed := s.silent, s.closed
		s.conns = append(s.conns, client, server)
		s.mu.Unlock()
		if closed {
			_, _ = client.Close(), server.Close()
			continue
		}
		s.wg.Go(func() { pass(unlessSilent{server, silent, new(atomic.Int64)}, server, client) })
		s.wg.Go(func() { pass(unlessSilent{client, silent, &s.said}, client, server) })
	}
}

// pass copies until one of the two connections ends, and ends the other.
func pass(w io.Writer, to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	_, _ = io.Copy(w, from)
}

// unlessSilent writes nothing any more once silent is closed, and counts what it writes.
type unlessSilent struct {
	io.Writer
	silent <-chan struct{}
	writes *atomic.Int64
}

func (w unlessSilent) Write(p []byte) (int, error) {
	select {
	case <-w.silent:
		return len(p), nil
	default:
		w.writes.Add(1)
		return w.Writer.Write(p)
	}
}
