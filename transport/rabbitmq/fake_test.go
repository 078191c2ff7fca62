package rabbitmq_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
)

// fake is a broker that agrees to everything, keeps nothing and delivers nothing. It confirms what is published, and ends
// the channel on a body of more than limit bytes, if that is not 0, in RabbitMQ's words.
type fake struct {
	url      string
	listener net.Listener
	limit    uint64
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newFake(t testing.TB, limit uint64) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{url: "amqp://u:p@" + l.Addr().String() + "/", listener: l, limit: limit, conns: map[net.Conn]struct{}{}}
	f.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns[c] = struct{}{}
			f.mu.Unlock()
			f.wg.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		f.cut()
		f.wg.Wait()
	})
	return f
}

// cut closes all connections without a word.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.Close()
		delete(f.conns, c)
	}
}

// Classes and methods, as AMQP 0-9-1 numbers them.
const (
	connectionStart, connectionTune     = 10<<16 | 10, 10<<16 | 30
	connectionOpen, connectionOpenOk    = 10<<16 | 40, 10<<16 | 41
	connectionStartOk, connectionTuneOk = 10<<16 | 11, 10<<16 | 31
	channelOpen, channelClose           = 20<<16 | 10, 20<<16 | 40
	queueDeclare, basicConsume          = 50<<16 | 10, 60<<16 | 20
	basicPublish, basicAck              = 60<<16 | 40, 60<<16 | 80
	basicGet, basicGetOk, basicGetEmpty = 60<<16 | 70, 60<<16 | 71, 60<<16 | 72
	channelCloseOk, connectionCloseOk   = 20<<16 | 41, 10<<16 | 51
)

func (f *fake) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	if _, err := io.ReadFull(r, make([]byte, 8)); err != nil { // "AMQP" and the version
		return
	}
	say := func(channel uint16, method uint32, args ...byte) {
		frame := binary.BigEndian.AppendUint16([]byte{1}, channel)
		frame = binary.BigEndian.AppendUint32(frame, uint32(4+len(args)))
		frame = binary.BigEndian.AppendUint32(frame, method)
		c.Write(append(append(frame, args...), 0xCE))
	}
	say(0, connectionStart, append(append([]byte{0, 9, 0, 0, 0, 0}, long("PLAIN")...), long("en_US")...)...)
	var tag, left uint64 // of the deliveries on the one channel that publishes, and of the body under way
	over := false        // that channel was ended
	for {
		head := make([]byte, 7)
		if _, err := io.ReadFull(r, head); err != nil {
			return
		}
		channel := binary.BigEndian.Uint16(head[1:])
		payload := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
		if _, err := io.ReadFull(r, payload); err != nil {
			return
		}
		switch payload = payload[:len(payload)-1]; head[0] {
		case 1:
			switch method := binary.BigEndian.Uint32(payload); method {
			case connectionStartOk:
				say(0, connectionTune, 0, 16, 0, 2, 0, 0, 0, 60) // at most 16 channels
			case connectionTuneOk, basicPublish, basicAck, channelCloseOk:
			case connectionOpen:
				say(0, connectionOpenOk, 0)
			case channelOpen:
				say(channel, method+1, 0, 0, 0, 0)
			case queueDeclare:
				say(channel, method+1, append(short(payload[6:]), 0, 0, 0, 0, 0, 0, 0, 0)...)
			case basicConsume:
				tag := payload[6+len(short(payload[6:])):]
				say(channel, method+1, short(tag)...)
			case basicGet:
				say(channel, basicGetEmpty, 0)
			default:
				say(channel, method+1)
				if method+1 == connectionCloseOk {
					return
				}
			}
		case 2:
			left = binary.BigEndian.Uint64(payload[4:])
			switch {
			case f.limit > 0 && left > f.limit && !over:
				over = true
				text := "PRECONDITION_FAILED - message size 1000001 is larger than configured max size 1000000"
				say(channel, channelClose, append(append([]byte{406 >> 8, 406 & 255, byte(len(text))}, text...), 0, 60, 0, 40)...)
			case left == 0 && !over:
				tag = confirm(say, channel, tag)
			}
		case 3:
			if left -= uint64(len(payload)); left == 0 && !over {
				tag = confirm(say, channel, tag)
			}
		}
	}
}

func confirm(say func(uint16, uint32, ...byte), channel uint16, tag uint64) uint64 {
	tag++
	say(channel, basicAck, append(binary.BigEndian.AppendUint64(nil, tag), 0)...)
	return tag
}

// short returns the short string at the beginning of b, with its length.
func short(b []byte) []byte { return append([]byte(nil), b[:1+int(b[0])]...) }

func long(s string) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...) }
