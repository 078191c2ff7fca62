package rabbitmq

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/transport"
)

// The delay ladder. A delay is a number of units. Each of its low binary digits has a level: an exchange that passes the
// message to a queue if the digit is 1, and past it to the next lower level if it is 0. The queue of level k holds a
// message for 2^k units and dead-letters it to the next lower level; below level 0 is the exchange delayOut, to which
// topics and groups' queues are bound by address. The digits stand in the routing key, which dead-lettering keeps.
//
// A queue's TTL must be below 2^32 ms, so that longer delays begin with a chain of queues of one length, step.
const (
	delayUnit = 64 * time.Millisecond
	levels    = 25
	stepUnits = 1 << levels // 24.8 days
	maxSteps  = 30
	maxDelay  = maxSteps * stepUnits * delayUnit
)

// units returns how many units make a delay of at least d.
func units(d time.Duration) int64 {
	return int64((d + delayUnit - 1) / delayUnit)
}

// delayed returns where a message of n units enters the ladder, and with which routing key.
func delayed(n int64, address string) (exchange, key string) {
	steps, low := n>>levels, n&(stepUnits-1)
	var b strings.Builder
	top := 0
	for k := levels - 1; k >= 0; k-- {
		if low>>k&1 == 1 {
			b.WriteString("1.")
			top = max(top, k)
		} else {
			b.WriteString("0.")
		}
	}
	b.WriteString(address)
	if steps > 0 {
		return stepName(int(steps)), b.String()
	}
	return levelName(top), b.String()
}

func levelName(k int) string { return delayPrefix + "." + strconv.Itoa(k) }
func stepName(j int) string  { return delayPrefix + ".long." + strconv.Itoa(j) }

// ensureDelay declares what a delay of n units needs: all levels from its highest down, in steps that other messages
// share.
func ensureDelay(ctx context.Context, c *connection, n int64) error {
	top := levels - 1
	steps := int(n >> levels)
	if steps == 0 {
		for top = 0; n>>(top+1) != 0; top++ {
		}
	}
	if err := c.once(ctx, "delay out", declareDelayOut); err != nil {
		return fmt.Errorf("declare the end of the delay ladder: %w", err)
	}
	for k := 0; k <= top; k++ {
		if err := c.once(ctx, levelName(k), func(ch *amqp.Channel) error { return declareLevel(ch, k) }); err != nil {
			return fmt.Errorf("declare level %d of the delay ladder: %w", k, err)
		}
	}
	for j := 1; j <= steps; j++ {
		if err := c.once(ctx, stepName(j), func(ch *amqp.Channel) error { return declareStep(ch, j) }); err != nil {
			return fmt.Errorf("declare step %d of the delay ladder: %w", j, err)
		}
	}
	return nil
}

// declareDelayOut declares the ladder's end. A queue that hands messages on at least once keeps one that nothing is bound
// for and, after a few of them, stands still; the sink takes a copy of every message and drops it at once, so that all
// have somewhere to go.
func declareDelayOut(ch *amqp.Channel) error {
	if err := ch.ExchangeDeclare(delayOut, "topic", true, false, false, false, nil); err != nil {
		return explain(err, "exchange", delayOut)
	}
	const sink = delayPrefix + ".sink"
	if _, err := ch.QueueDeclare(sink, true, false, false, false, amqp.Table{"x-max-length": int32(0)}); err != nil {
		return explain(err, "queue", sink)
	}
	return ch.QueueBind(sink, "#", delayOut, false, nil)
}

func declareLevel(ch *amqp.Channel, k int) error {
	below := delayOut
	if k > 0 {
		below = levelName(k - 1)
	}
	name := levelName(k)
	if err := ch.ExchangeDeclare(name, "topic", true, false, false, false, nil); err != nil {
		return explain(err, "exchange", name)
	}
	if err := declareDelayQueue(ch, name, 1<<k, below); err != nil {
		return err
	}
	digit := strings.Repeat("*.", levels-1-k)
	if err := ch.ExchangeBind(below, digit+"0.#", name, false, nil); err != nil {
		return err
	}
	return ch.QueueBind(name, digit+"1.#", name, false, nil)
}

func declareStep(ch *amqp.Channel, j int) error {
	below := levelName(levels - 1)
	if j > 1 {
		below = stepName(j - 1)
	}
	name := stepName(j)
	if err := ch.ExchangeDeclare(name, "fanout", true, false, false, false, nil); err != nil {
		return explain(err, "exchange", name)
	}
	if err := declareDelayQueue(ch, name, stepUnits, below); err != nil {
		return err
	}
	return ch.QueueBind(name, "", name, false, nil)
}

func declareDelayQueue(ch *amqp.Channel, name string, n int64, below string) error {
	_, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{
		"x-queue-type":           "quorum",
		"x-message-ttl":          n * delayUnit.Milliseconds(),
		"x-dead-letter-exchange": below,
		"x-dead-letter-strategy": "at-least-once",
		"x-overflow":             "reject-publish", // what at-least-once requires
	})
	if err != nil {
		return explain(err, "queue", name)
	}
	return nil
}

// routeDelayed returns where a message that is due in d enters the ladder, all the way to its end being declared.
func routeDelayed(ctx context.Context, c *connection, d time.Duration, topic, group string) (exchange, key string, err error) {
	if d > maxDelay {
		return "", "", fmt.Errorf("%w: due in %v; the longest delay is %v", transport.ErrUnsupported, d, maxDelay)
	}
	n := units(d)
	if err := ensureDelay(ctx, c, n); err != nil {
		return "", "", err
	}
	if group == "" {
		name := exchangeName(topic)
		to := address(toExchange, name)
		exchange, key = delayed(n, to)
		return exchange, key, c.once(ctx, "delayed exchange "+name, func(ch *amqp.Channel) error { return bindDelayedTopic(ch, name) })
	}
	name := queueName(topic, group)
	exchange, key = delayed(n, address(toQueue, name))
	err = c.once(ctx, "delayed queue "+name, func(ch *amqp.Channel) error { return bindDelayedQueue(ch, name) })
	if isCode(err, amqp.NotFound) {
		err = fmt.Errorf("%w: group %q has no queue on topic %q", ErrUnroutable, group, topic)
	}
	return exchange, key, err
}

func bindDelayedTopic(ch *amqp.Channel, exchange string) error {
	return ch.ExchangeBind(exchange, "#."+address(toExchange, exchange), delayOut, false, nil)
}

func bindDelayedQueue(ch *amqp.Channel, queue string) error {
	return ch.QueueBind(queue, "#."+address(toQueue, queue), delayOut, false, nil)
}
