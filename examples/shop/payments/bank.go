package payments

import (
	"context"
	"errors"
	"sync"

	"go.uber.org/fx"

	"github.com/postbus/postbus/examples/shop/tables"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
)

// Cards that Bank treats specially; it charges any other.
const (
	CardDeclined = "card-declined" // declined
	CardFlaky    = "card-flaky"    // times out twice, then is charged
	CardSilent   = "card-silent"   // waits for a confirmation that never comes
)

// ErrTimeout: the bank did not answer.
var ErrTimeout = errors.New("bank: no answer")

// Bank is a Gateway that stands in for a real one. Its account is a second record of the money, which has nothing to do
// with the transactions of the shop.
type Bank struct {
	box *outbox.Box

	mu       sync.Mutex
	timeouts map[string]int // by order
}

// NewBank makes the bank, and its account when the application starts.
func NewBank(lc fx.Lifecycle, db *store.DB, box *outbox.Box) Gateway {
	tables.Create(lc, db, `create table if not exists bank_account (order_id varchar(64) primary key, cents bigint)`)
	return &Bank{box: box, timeouts: map[string]int{}}
}

// Charge implements Gateway.
func (b *Bank) Charge(ctx context.Context, orderID, card string, cents int64) error {
	switch {
	case card == CardDeclined:
		return ErrDeclined
	case card == CardSilent:
		return ErrPending
	case card == CardFlaky && b.timeout(orderID):
		return ErrTimeout
	}
	return b.box.Tx(ctx, func(tx *outbox.Tx) error {
		_, err := tables.Insert(ctx, tx, `bank_account (order_id, cents)`, orderID, cents)
		return err
	})
}

// Refund implements Gateway.
func (b *Bank) Refund(ctx context.Context, orderID string) error {
	return b.box.Tx(ctx, func(tx *outbox.Tx) error {
		_, err := tables.Exec(ctx, tx, `update bank_account set cents = 0 where order_id = ?`, orderID)
		return err
	})
}

func (b *Bank) timeout(orderID string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timeouts[orderID]++
	return b.timeouts[orderID] <= 2
}
