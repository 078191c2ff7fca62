package rabbitmq

import amqp "github.com/rabbitmq/amqp091-go"

// probation is how a channel begins on a queue that counts deliveries for all that was held. What a dead process held
// stands at the head of the queue. It is fetched one at a time, each after the one before was settled, so that the next
// death is counted for the message that causes it and for no other. Then the channel consumes.
type probation struct {
	c          *consumer
	history    *history
	queue, tag string
	over       bool
	seen       map[string]bool      // IDs of what was fetched
	deliveries <-chan amqp.Delivery // once it is over
}

// step fetches one message. Probation is over when there is none, when it was never tried before, or when this channel has
// itself given it back: it did not kill, and all that was delivered before it did has passed.
func (p *probation) step() (err error) {
	p.c.asking.Lock()
	defer p.c.asking.Unlock()
	if !p.over {
		d, there, err := p.c.ch.Get(p.queue, false)
		if err != nil {
			return err
		}
		p.over = !there
		if there {
			m, before := decode(&d)
			p.over = p.history.attempt(m.ID, before) == 1 || p.seen[m.ID]
			p.seen[m.ID] = true
			p.c.add(&d)
		}
		if p.over {
			p.history.probed.Store(true)
		}
	}
	if p.over {
		p.deliveries, err = p.c.ch.Consume(p.queue, p.tag, false, false, false, false, nil)
	}
	return err
}

// run goes on after the first step, until the channel consumes. The error is why it never will.
func (p *probation) run(closes <-chan *amqp.Error) error {
	for p.deliveries == nil {
		select {
		case <-p.c.settled:
		case err := <-closes:
			if err != nil {
				return err
			}
			return amqp.ErrClosed
		}
		if err := p.step(); err != nil {
			return p.c.reason(closes, err)
		}
	}
	return nil
}
