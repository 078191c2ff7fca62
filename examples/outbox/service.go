package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
)

// Placed says that an order is in the database.
type Placed struct {
	OrderID string `json:"order_id"`
	Cents   int64  `json:"cents"`
}

func (Placed) EventName() string  { return "orders.placed" }
func (e Placed) EventKey() string { return e.OrderID }

// Charged says that it was charged.
type Charged struct {
	OrderID string `json:"order_id"`
}

func (Charged) EventName() string  { return "payments.charged" }
func (e Charged) EventKey() string { return e.OrderID }

type service struct {
	db  *store.DB
	box *outbox.Box
}

func (s *service) prepare(ctx context.Context) error {
	for _, table := range []string{
		`CREATE TABLE IF NOT EXISTS orders (id varchar(100) PRIMARY KEY, cents bigint NOT NULL)`,
		`CREATE TABLE IF NOT EXISTS charges (order_id varchar(100) NOT NULL, cents bigint NOT NULL)`,
	} {
		if _, err := s.db.SQL().ExecContext(ctx, table); err != nil {
			return err
		}
	}
	return s.box.Prepare(ctx)
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", s.take)
	mux.HandleFunc("GET /books", s.books)
	return mux
}

// take answers once the order and its event are committed, and charges nobody: that is done by whoever gets the event.
func (s *service) take(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("id")
	cents, err := strconv.ParseInt(r.FormValue("cents"), 10, 64)
	if err != nil || id == "" {
		http.Error(w, "an order has an id, and cents", http.StatusBadRequest)
		return
	}
	err = s.box.Tx(r.Context(), func(tx *outbox.Tx) error {
		if _, err := tx.ExecContext(r.Context(), tx.Dialect().Bind(`INSERT INTO orders (id, cents) VALUES (?, ?)`), id, cents); err != nil {
			return err
		}
		return tx.Publish(r.Context(), Placed{id, cents})
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// charge takes effect once for each message, although it may be delivered again.
func charge(ctx context.Context, tx *outbox.Tx, e Placed) error {
	if _, err := tx.ExecContext(ctx, tx.Dialect().Bind(`INSERT INTO charges (order_id, cents) VALUES (?, ?)`), e.OrderID, e.Cents); err != nil {
		return err
	}
	return tx.Publish(ctx, Charged{e.OrderID})
}

// Books balance when each order was charged once.
type Books struct {
	Orders, Charges  int
	Ordered, Charged int64 // cents
}

func (s *service) books(w http.ResponseWriter, r *http.Request) {
	var b Books
	err := s.db.SQL().QueryRowContext(r.Context(), `SELECT (SELECT COUNT(*) FROM orders), (SELECT COUNT(*) FROM charges),
		(SELECT COALESCE(SUM(cents), 0) FROM orders), (SELECT COALESCE(SUM(cents), 0) FROM charges)`).Scan(&b.Orders, &b.Charges, &b.Ordered, &b.Charged)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(b)
}
