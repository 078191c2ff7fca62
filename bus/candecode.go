package bus

import (
	"fmt"

	"github.com/postbus/postbus/transport"
)

// CanDecode returns why group could not decode a message, upcasts included, and nil if it could; without handling it. It is
// for who has changed a message and is about to send it, such as a quarantine. It may be called before and after Start.
func (b *Bus) CanDecode(group string, m *transport.Message) (err error) {
	defer func() {
		if p := recover(); p != nil { // upcasts and events are the program's code
			err = fmt.Errorf("%w: %q panicked: %v", ErrDecode, m.Name, p)
		}
	}()
	b.mu.Lock()
	g := b.wiring.groups[group]
	if g == nil {
		b.mu.Unlock()
		return fmt.Errorf("%w: group %q handles nothing here", ErrInvalid, group)
	}
	s := schema{m.Name, max(1, m.Version)}
	chain, h := b.wiring.lead(g, s)
	b.mu.Unlock()
	if h == nil {
		return fmt.Errorf("%w: %s in group %q", ErrVersion, s, group)
	}
	d := NewDelivery(m, "", group, 1)
	if len(chain) == 0 {
		_, err = h.decode(d)
		return err
	}
	e, err := chain[0].decode(d)
	for i := 0; err == nil && i < len(chain); i++ {
		e, err = chain[i].apply(e)
	}
	return err
}
