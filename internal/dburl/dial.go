package dburl

import (
	"context"
	"errors"
	"net"
	"time"
)

// silence is about how long a connection lives whose other end is gone without a word, as after a failure of the network.
// Left to the system, a statement without a deadline, and any commit on MySQL, would wait for a quarter of an hour.
const silence = 30 * time.Second

// dial makes a connection that notices when its other end is gone.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silence / 2, Interval: silence / 6, Count: 3}}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		if err := limitSilence(tcp); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// limitSilence bounds for how long what was sent may stay without an answer of the other system. Keep-alives do not come
// into that, for the connection is not idle then.
func limitSilence(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = setUserTimeout(fd, int(silence.Milliseconds())) })
	return errors.Join(err, set)
}
