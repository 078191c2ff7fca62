package sagatest

import (
	"context"
	"encoding/json"
	"reflect"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// recorder is the transport of a Probe: what is published stays in a table, and is there only if its transaction commits.
type recorder struct{}

func prepare(ctx context.Context, db *store.DB) error {
	_, err := db.SQL().ExecContext(ctx, "CREATE TABLE sagatest_published (n INTEGER PRIMARY KEY, name TEXT, key TEXT, payload TEXT)")
	return err
}

// PublishTx keeps messages.
func (recorder) PublishTx(ctx context.Context, tx store.Execer, _ string, msgs []transport.Message) error {
	for _, m := range msgs {
		_, err := tx.ExecContext(ctx, "INSERT INTO sagatest_published (name, key, payload) VALUES (?, ?, ?)", m.Name, m.Key, string(m.Payload))
		if err != nil {
			return err
		}
	}
	return nil
}

// Cancel finds nothing: nothing waits.
func (recorder) Cancel(context.Context, store.Execer, string) (bool, error) { return false, nil }

// Wake has nobody to wake.
func (recorder) Wake(string) {}

// Publish implements transport.Transport.
func (recorder) Publish(context.Context, string, []transport.Message) error {
	return transport.ErrUnsupported
}

// Subscribe implements transport.Transport.
func (recorder) Subscribe(context.Context, transport.SubscribeConfig) (transport.Subscription, error) {
	return nil, transport.ErrUnsupported
}

// Capabilities implements transport.Transport.
func (recorder) Capabilities() transport.Capabilities {
	return transport.Capabilities{Durable: true, Delay: true, Target: true}
}

// Close implements transport.Transport.
func (recorder) Close() error { return nil }

// published returns the names and payloads of all that was published.
func (p *Probe) published() (names, payloads []string) {
	p.t.Helper()
	rows, err := p.db.SQL().QueryContext(p.t.Context(), "SELECT name, payload FROM sagatest_published ORDER BY n")
	if err != nil {
		p.t.Fatalf("sagatest: %v", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, payload string
		if err := rows.Scan(&name, &payload); err != nil {
			p.t.Fatalf("sagatest: %v", err)
		}
		names, payloads = append(names, name), append(payloads, payload)
	}
	if err := rows.Err(); err != nil {
		p.t.Fatalf("sagatest: %v", err)
	}
	return names, payloads
}

// Published returns the events of type E that the sagas have published, in their order; those with a delay, too.
func Published[E bus.Event](p *Probe) (events []E) {
	p.t.Helper()
	typ := reflect.TypeFor[E]()
	fresh := func() E { var e E; return e }
	if typ.Kind() == reflect.Pointer {
		fresh = func() E { return reflect.New(typ.Elem()).Interface().(E) }
	}
	want := fresh().EventName()
	names, payloads := p.published()
	for i, name := range names {
		if name != want {
			continue
		}
		e := fresh()
		if err := json.Unmarshal([]byte(payloads[i]), &e); err != nil {
			p.t.Fatalf("sagatest: %q: %v", name, err)
		}
		events = append(events, e)
	}
	return events
}

// State returns the state of an instance.
func State[S any](p *Probe, name, key string) (state S) {
	p.t.Helper()
	if err := json.Unmarshal(p.Instance(name, key).State, &state); err != nil {
		p.t.Fatalf("sagatest: the state of %q: %v", key, err)
	}
	return state
}

// Now returns what the clock says.
func (p *Probe) Now() time.Time { return time.UnixMilli(p.now) }

// all returns all instances.
func (p *Probe) all() []saga.Instance {
	p.t.Helper()
	list, err := p.orchestrator.List(p.t.Context(), saga.Filter{Limit: 1000})
	if err != nil {
		p.t.Fatalf("sagatest: %v", err)
	}
	return list
}
