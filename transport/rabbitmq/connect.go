package rabbitmq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// closeWait bounds how long a caller waits for an orderly close, closeLimit how long the broker has to close a channel.
const (
	closeWait  = time.Second
	closeLimit = 10 * time.Second
)

// connection is one connection to the broker, until it is lost or closed.
type connection struct {
	*amqp.Connection
	sock *socket
	// done is closed when the connection has ended; failure holds the first known cause.
	done    chan struct{}
	failure atomic.Pointer[error]
	// blocked holds the reason while the broker holds publishers up; unblock is closed when it ends.
	blockMu sync.Mutex
	blocked string
	unblock chan struct{}
	// admin guards what follows: what this connection has declared already, and the calls that use it.
	admin     sync.Mutex
	declared  map[string]bool
	declaring map[string]*declaration
	shutting  bool
	calls     sync.WaitGroup
}

// connect opens a connection. onBlocked is told about each change of blocked.
func connect(ctx context.Context, cfg *Config, at endpoint, role string, onBlocked func(reason string)) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer cancel()
	sasl, err := cfg.auth(at)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", at.addr)
	if err != nil {
		return nil, err
	}
	if at.tls {
		tlsCfg, err := cfg.tlsConfig(at.host)
		if err != nil {
			raw.Close()
			return nil, err
		}
		client := tls.Client(raw, tlsCfg)
		if err := client.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		raw = client
	}
	// amqp091-go knows no context: a connection whose context ends during the handshake is closed under it.
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	c := &connection{sock: &socket{Conn: raw}, done: make(chan struct{}), declared: map[string]bool{}, declaring: map[string]*declaration{}}
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName(cfg.Name + " " + role)
	c.Connection, err = amqp.Open(c.sock, amqp.Config{
		SASL: sasl, Vhost: at.vhost, Heartbeat: cfg.Heartbeat, Locale: "en_US", Properties: properties, FrameSize: 128 << 10,
	})
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		if cause := ctx.Err(); cause != nil {
			return nil, fmt.Errorf("handshake: %w", cause)
		}
		return nil, handshakeError(err, at)
	}
	closes := c.NotifyClose(make(chan *amqp.Error, 1))
	blocks := c.NotifyBlocked(make(chan amqp.Blocking, 8))
	go c.watch(closes, blocks, onBlocked)
	return c, nil
}

func handshakeError(err error, at endpoint) error {
	switch {
	case errors.Is(err, amqp.ErrCredentials):
		return fmt.Errorf("user %q was refused: wrong password, or no such user: %w", at.username, err)
	case errors.Is(err, amqp.ErrVhost) || isCode(err, amqp.NotAllowed):
		return fmt.Errorf("virtual host %q does not exist, or user %q may not use it: %w", at.vhost, at.username, err)
	}
	return fmt.Errorf("handshake: %w", err)
}

// watch keeps done and blocked; it ends with the connection.
func (c *connection) watch(closes chan *amqp.Error, blocks chan amqp.Blocking, onBlocked func(string)) {
	defer close(c.done)
	defer c.setBlocked("")
	for {
		select {
		case b, ok := <-blocks:
			if !ok {
				blocks = nil
				continue
			}
			reason := ""
			if b.Active {
				if reason = b.Reason; reason == "" {
					reason = "no reason given"
				}
			}
			c.setBlocked(reason)
			onBlocked(reason)
		case err, ok := <-closes:
			if !ok {
				return
			}
			cause := error(err)
			c.failure.CompareAndSwap(nil, &cause)
		}
	}
}

func (c *connection) setBlocked(reason string) {
	c.blockMu.Lock()
	defer c.blockMu.Unlock()
	switch {
	case reason == "" && c.unblock != nil:
		close(c.unblock)
		c.unblock = nil
	case reason != "" && c.unblock == nil:
		c.unblock = make(chan struct{})
	}
	c.blocked = reason
}

// held returns a channel that is closed when the broker does not hold publishers up any more; nil if it does not.
func (c *connection) held() <-chan struct{} {
	c.blockMu.Lock()
	defer c.blockMu.Unlock()
	if c.unblock == nil {
		return nil
	}
	return c.unblock
}

// await runs f, a request to the broker that knows no context, and returns when it has or ctx ends. In the latter case f
// goes on until the broker answers or the connection ends.
func (c *connection) await(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	result := make(chan error, 1)
	if !c.spawn(func() { result <- f() }) {
		return amqp.ErrClosed
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// spawn runs f in a goroutine that shut waits for; f must end when the connection does.
func (c *connection) spawn(f func()) bool {
	c.admin.Lock()
	defer c.admin.Unlock()
	if c.shutting {
		return false
	}
	c.calls.Go(f)
	return true
}

// withChannel runs f on a channel of its own: a refusal closes the channel and nothing else.
func (c *connection) withChannel(ctx context.Context, f func(ch *amqp.Channel) error) error {
	return c.await(ctx, func() error {
		ch, err := c.Channel()
		if err != nil {
			return err
		}
		defer ch.Close()
		return f(ch)
	})
}

// declaration is one that is under way.
type declaration struct {
	done chan struct{}
	err  error // once done
}

// once runs declare, on a channel of its own, unless this connection has done so under key. Whoever comes meanwhile waits
// for the same: callers whose contexts end before the broker has answered must not each begin anew, until there are no
// channels left.
func (c *connection) once(ctx context.Context, key string, declare func(ch *amqp.Channel) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.admin.Lock()
	if c.declared[key] {
		c.admin.Unlock()
		return nil
	}
	d := c.declaring[key]
	if d == nil {
		if c.shutting {
			c.admin.Unlock()
			return amqp.ErrClosed
		}
		d = &declaration{done: make(chan struct{})}
		c.declaring[key] = d
		c.calls.Go(func() { c.declare(key, d, declare) })
	}
	c.admin.Unlock()
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *connection) declare(key string, d *declaration, declare func(ch *amqp.Channel) error) {
	ch, err := c.Channel()
	if err == nil {
		err = declare(ch)
		_ = ch.Close()
	}
	c.admin.Lock()
	delete(c.declaring, key)
	if err == nil {
		c.declared[key] = true
	}
	c.admin.Unlock()
	d.err = err
	close(d.done)
}

// fail closes the connection because of err, for which the broker closed a channel.
func (c *connection) fail(err error) {
	c.failure.CompareAndSwap(nil, &err)
	c.sock.Conn.Close()
}

// ended reports whether the connection is of no use any more.
func (c *connection) ended() bool { return c.IsClosed() || c.failure.Load() != nil }

// reason returns why the connection ended, or is about to, as far as is known.
func (c *connection) reason() error {
	if err := c.failure.Load(); err != nil {
		return *err
	}
	return amqp.ErrClosed
}

// shut closes the connection, in order if the broker answers within closeWait, and waits for what used it.
func (c *connection) shut() {
	c.admin.Lock()
	first := !c.shutting
	c.shutting = true
	c.admin.Unlock()
	if first {
		kill := time.AfterFunc(closeWait, func() { c.sock.Conn.Close() })
		_ = c.CloseDeadline(time.Now().Add(closeWait))
		kill.Stop()
		c.sock.Conn.Close()
	}
	<-c.done
	c.calls.Wait()
}
