package payments

import (
	"context"
	"errors"
	"maps"
	"sync"
)

// Cards that Bank treats specially; it charges any other.
const (
	CardDeclined = "card-declined" // declined
	CardFlaky    = "card-flaky"    // times out twice, then is charged
)

// ErrTimeout: the bank did not answer.
var ErrTimeout = errors.New("bank: no answer")

// Bank is a Gateway that stands in for a real one. Its account is a second record of the money.
type Bank struct {
	mu       sync.Mutex
	received map[string]int64 // by order
	timeouts map[string]int   // by order
}

var _ Gateway = (*Bank)(nil)

// Charge implements Gateway.
func (b *Bank) Charge(_ context.Context, orderID, card string, cents int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, done := b.received[orderID]; done {
		return nil
	}
	if b.received == nil {
		b.received, b.timeouts = map[string]int64{}, map[string]int{}
	}
	switch {
	case card == CardDeclined:
		return ErrDeclined
	case card == CardFlaky && b.timeouts[orderID] < 2:
		b.timeouts[orderID]++
		return ErrTimeout
	}
	b.received[orderID] = cents
	return nil
}

// Account returns the cents received, by order.
func (b *Bank) Account() map[string]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.received)
}
