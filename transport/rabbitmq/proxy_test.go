package rabbitmq_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy stands between a transport and the broker. It can cut connections, hold back what the broker says, and say
// itself that the broker holds publishers up, as an alarm of memory or disk makes it.
type proxy struct {
	url      string
	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	conns  map[*proxied]struct{}
	refuse bool
	mute   bool   // hold back what the broker says, heartbeats included
	muteAt uint32 // mute from this method of the broker's on
	wait   *sync.Cond
}

// proxied is one connection through the proxy.
type proxied struct {
	client, broker net.Conn
	write          sync.Mutex // of whole frames to the client
	deaf           bool       // what the client says is not read, as the broker does while it blocks
}

func newProxy(t testing.TB, rawURL string) *proxy {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: u.Host, conns: map[*proxied]struct{}{}}
	p.wait = sync.NewCond(&p.mu)
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u.Host = p.listener.Addr().String()
	p.url = u.String()
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		p.listener.Close()
		p.set(func() { p.mute = false })
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.refuse
		p.mu.Unlock()
		broker, err := net.Dial("tcp", p.target)
		if refuse || err != nil {
			client.Close()
			if err == nil {
				broker.Close()
			}
			continue
		}
		c := &proxied{client: client, broker: broker}
		p.mu.Lock()
		p.conns[c] = struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() { p.toBroker(c) })
		p.wg.Go(func() { p.toClient(c) })
	}
}

func (p *proxy) toBroker(c *proxied) {
	defer p.drop(c)
	buf := make([]byte, 32<<10)
	for {
		n, err := c.client.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		for c.deaf && p.has(c) {
			p.wait.Wait()
		}
		p.mu.Unlock()
		if _, err := c.broker.Write(buf[:n]); err != nil {
			return
		}
	}
}

// toClient copies whole frames, so that others can be put between them.
func (p *proxy) toClient(c *proxied) {
	defer p.drop(c)
	r := bufio.NewReader(c.broker)
	for {
		frame := make([]byte, 7)
		if _, err := io.ReadFull(r, frame); err != nil {
			return
		}
		rest := make([]byte, binary.BigEndian.Uint32(frame[3:])+1)
		if _, err := io.ReadFull(r, rest); err != nil {
			return
		}
		p.mu.Lock()
		if frame[0] == 1 && p.muteAt != 0 && binary.BigEndian.Uint32(rest) == p.muteAt {
			p.mute = true
		}
		for p.mute && p.has(c) {
			p.wait.Wait()
		}
		p.mu.Unlock()
		c.write.Lock()
		_, err := c.client.Write(append(frame, rest...))
		c.write.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *proxy) has(c *proxied) bool {
	_, ok := p.conns[c]
	return ok
}

func (p *proxy) drop(c *proxied) {
	c.client.Close()
	c.broker.Close()
	p.set(func() { delete(p.conns, c) })
}

func (p *proxy) set(change func()) {
	p.mu.Lock()
	change()
	p.mu.Unlock()
	p.wait.Broadcast()
}

// cut closes all connections, at once and without a word.
func (p *proxy) cut() {
	p.set(func() {
		for c := range p.conns {
			c.client.Close()
			c.broker.Close()
			delete(p.conns, c)
		}
	})
}

// block tells all clients that the broker holds publishers up and stops reading from them, as RabbitMQ does.
func (p *proxy) block(reason string) {
	payload := append([]byte{0, 10, 0, 60, byte(len(reason))}, reason...)
	p.say(payload, true)
}

// unblock ends it.
func (p *proxy) unblock() { p.say([]byte{0, 10, 0, 61}, false) }

func (p *proxy) say(method []byte, deaf bool) {
	frame := append([]byte{1, 0, 0}, binary.BigEndian.AppendUint32(nil, uint32(len(method)))...)
	frame = append(append(frame, method...), 0xCE)
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.write.Lock()
		c.client.Write(frame)
		c.write.Unlock()
		c.deaf = deaf
	}
	p.wait.Broadcast()
}
