package main

import (
	"sync/atomic"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/examples/shop/intake"
	"github.com/postbus/postbus/examples/shop/inventory"
	"github.com/postbus/postbus/examples/shop/notifications"
	"github.com/postbus/postbus/examples/shop/orders"
	"github.com/postbus/postbus/examples/shop/payments"
	"github.com/postbus/postbus/examples/shop/shipping"
	"github.com/postbus/postbus/middleware"
)

// opening is the stock at the start of the day, in pieces.
var opening = map[string]int{
	"apron": 400, "bowl": 900, "cup": 2000, "fork": 3000, "jug": 500,
	"knife": 3000, "plate": 2500, "spoon": 3000, "teapot": 300, "tray": 600,
}

// shop is all modules. It is the only place that knows all of them, and they know each other only by what they publish.
type shop struct {
	orders        *orders.Module
	inventory     *inventory.Module
	payments      *payments.Module
	shipping      *shipping.Module
	notifications *notifications.Module
	bank          payments.Bank

	shelf   shelf
	retries retries
	read    atomic.Int64 // lines
}

// build makes the modules; they publish to events.
func (s *shop) build(events bus.Publisher) {
	s.orders = orders.New(events)
	s.inventory = inventory.New(events, opening)
	s.payments = payments.New(events, &s.bank)
	s.shipping = shipping.New(events)
	s.notifications = notifications.New()
}

// configure sets what the shop needs of its bus.
func (s *shop) configure(cfg *bus.Config) {
	// Three tries in process, then again as another delivery, and what cannot be handled goes to the shelf.
	cfg.Middleware = middleware.Standard(middleware.StandardConfig{
		Quarantine: &s.shelf,
		Log:        middleware.LogConfig{Logger: cfg.Logger},
	})
	cfg.Middleware = append(cfg.Middleware, s.retries.count)
	cfg.Codecs = []codec.Codec{intake.Codec}
}

// wire declares the handlers of all modules.
func (s *shop) wire(b *bus.Bus) {
	s.orders.Wire(b)
	s.inventory.Wire(b)
	s.payments.Wire(b)
	s.shipping.Wire(b)
	s.notifications.Wire(b)
}

// feed returns what puts lines on the bus.
func (s *shop) feed(events bus.Publisher) *intake.Feed {
	return &intake.Feed{Events: events, Read: func() { s.read.Add(1) }, Refused: s.shelf.refuse}
}

// tally is how far the shop has come. Two that are equal mean that nothing has moved in between.
type tally struct {
	lines    int
	setAside int // lines
	failed   int // other messages that were set aside
	orders   orders.Counts
	retried  int // orders
	tries    int
	held     int // orders with stock put aside
	mails    int
}

func (s *shop) tally() tally {
	t := tally{lines: int(s.read.Load()), orders: s.orders.Counts(), held: s.inventory.Held(), mails: s.notifications.Sent()}
	all := 0
	t.setAside, all = s.shelf.sums()
	t.failed = all - t.setAside
	t.retried, t.tries = s.retries.sums()
	return t
}

// settled reports whether everything that was read has come to its end, by the books of the modules: no transport can
// be asked, for some do not know what others still have to do.
func (t tally) settled() bool {
	return t.lines == t.orders.Orders+t.orders.Duplicates+t.setAside &&
		t.orders.Final == t.orders.Orders && t.mails == t.orders.Orders && t.held == 0
}

// books returns a copy of all books.
func (s *shop) books() books {
	return books{
		Lines:         int(s.read.Load()),
		SetAside:      s.shelf.list(),
		Orders:        s.orders.Ledger(),
		Inventory:     s.inventory.Ledger(),
		Payments:      s.payments.Ledger(),
		Bank:          s.bank.Account(),
		Shipping:      s.shipping.Ledger(),
		Notifications: s.notifications.Ledger(),
	}
}
