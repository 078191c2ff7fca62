package failures

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// million is a quarantine with a million entries, seven tenths of them of one fingerprint.
type million struct {
	url   string
	once  sync.Once
	err   error
	store *quarantine.Store
	kinds []quarantine.Fingerprint
	seen  []quarantine.Entry
}

const (
	entries = 1_000_000
	kinds   = 1000
	groups  = 20
)

// open fills the quarantine when it is used first.
func (m *million) open(ctx context.Context) error {
	m.once.Do(func() { m.err = m.fill(context.WithoutCancel(ctx)) })
	return m.err
}

// fill puts an entry of each kind, and copies them.
func (m *million) fill(ctx context.Context) error {
	s, err := quarantine.Open(ctx, m.url, quarantine.Config{})
	if err != nil {
		return err
	}
	m.store = s
	err = each(kinds, func(i int) error {
		e := order(i)
		d := bus.NewDelivery(&transport.Message{
			ID: fmt.Sprintf("%08d-0000-7000-8000-000000000000", i), Name: fmt.Sprintf("orders.e%d", i%7), Key: e.OrderID,
			ContentType: "application/json", CorrelationID: e.OrderID, Payload: []byte(payload),
		}, "orders", fmt.Sprintf("group-%d", i%groups), 10)
		return s.Put(ctx, d, fmt.Errorf("charge %q: the bank %s is closed", e.OrderID, letters(i)))
	})
	if err != nil {
		return err
	}
	url := m.url
	if strings.HasPrefix(url, "sqlite:") {
		url += "?synchronous=off"
	}
	db, err := store.Open(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close()
	all, _, err := s.List(ctx, quarantine.Filter{}, quarantine.Page{Limit: kinds})
	if err != nil {
		return err
	}
	const columns = `status, grp, topic, event, fp, first_ms, last_ms, attempts, replays, claim, claim_ms, msg_id, msg_key, headers, errors, detail, new_body, payload`
	big := all[0]
	copies, pattern := entries*7/10, fmt.Sprintf("id = %d", big.ID)
	for pass := range 2 {
		n := "SELECT value AS g FROM generate_series(1, CAST(? AS integer)) AS t(value)"
		ident := "sha256(convert_to(q.id || '-' || g || '-" + strconv.Itoa(pass) + "', 'UTF8'))"
		if db.Dialect() == store.SQLite {
			n = "WITH RECURSIVE c(g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM c LIMIT ?) SELECT g FROM c"
			ident = fmt.Sprintf("CAST(printf('%%015d-%d%%015d', q.id, g) AS BLOB)", pass)
		}
		q := fmt.Sprintf(`INSERT INTO postbus_quarantine (ident, %s) SELECT %s, %s FROM postbus_quarantine q, (%s) AS series WHERE %s`,
			columns, ident, spread(columns), n, pattern)
		if _, err := db.SQL().ExecContext(ctx, db.Dialect().Bind(q), copies); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
		copies, pattern = entries*3/10/kinds-1, fmt.Sprintf("id <= %d", kinds)
	}
	for _, q := range []string{
		"UPDATE postbus_quarantine_kind SET n = (SELECT COUNT(*) FROM postbus_quarantine q WHERE q.fp = postbus_quarantine_kind.fp)", "ANALYZE",
	} {
		if _, err := db.SQL().ExecContext(ctx, q); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	if m.kinds, err = s.Fingerprints(ctx, quarantine.Filter{}, kinds); err != nil {
		return err
	}
	m.seen, _, err = s.List(ctx, quarantine.Filter{}, quarantine.Page{Limit: kinds})
	return err
}

// spread is the columns, with times a second apart.
func spread(columns string) string {
	const before, after = "status, grp, topic, event, fp, ", "first_ms, last_ms"
	return before + "first_ms - g * 1000, last_ms - g * 1000" + columns[len(before)+len(after):]
}

func letters(i int) string {
	out := ""
	for range 3 {
		out += string(rune('a' + i%26))
		i /= 26
	}
	return out
}

// each calls do for 0 to n-1, some at once.
func each(n int, do func(i int) error) error {
	errs := make(chan error, workers)
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for i := worker; i < n; i += workers {
				if err := do(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// slowest measures each of what an operator asks, and reports the one that takes the longest, in ms.
func (m *million) slowest(asks func(ctx context.Context) []func() error) bench.Contender {
	return func(ctx context.Context, r *bench.Run) error {
		if err := m.open(ctx); err != nil {
			return err
		}
		worst := time.Duration(0)
		r.Start()
		for _, ask := range asks(ctx) {
			began := time.Now()
			if err := ask(); err != nil {
				return err
			}
			worst = max(worst, time.Since(began))
		}
		r.Stop(1)
		r.Report(float64(worst.Microseconds()) / 1000)
		return nil
	}
}

// list asks for pages: the first of all, of a group, of an event, of both, of a fingerprint, by age, and one in the middle.
func (m *million) list(ctx context.Context) (asks []func() error) {
	rare, big := m.kinds[len(m.kinds)-1], m.kinds[0]
	middle := big.Last.Add(-entries / 3 * time.Second)
	for _, f := range []quarantine.Filter{
		{}, {Group: rare.Group}, {Group: big.Group}, {Event: rare.Event}, {Group: rare.Group, Event: rare.Event}, {Fingerprint: rare.Fingerprint},
		{Fingerprint: big.Fingerprint}, {Before: middle}, {Group: big.Group, Before: middle}, {Since: big.Last}, {Group: rare.Group, Since: big.Last},
		{Group: "nobody"}, {MessageID: "nothing"}, {Status: quarantine.Replayed},
	} {
		asks = append(asks, func() error {
			_, next, err := m.store.List(ctx, f, quarantine.Page{})
			if err == nil && next != "" {
				_, _, err = m.store.List(ctx, f, quarantine.Page{From: next})
			}
			return err
		})
	}
	return append(asks, func() error {
		n, err := m.store.Count(ctx, quarantine.Filter{Fingerprint: big.Fingerprint})
		if err == nil && n < entries*7/10 {
			err = fmt.Errorf("counted %d", n)
		}
		return err
	})
}

// fingerprints asks for the most frequent ones of all and of a group.
func (m *million) fingerprints(ctx context.Context) (asks []func() error) {
	for _, f := range []quarantine.Filter{{}, {Group: m.kinds[0].Group}, {Event: m.kinds[0].Event}, {Fingerprint: m.kinds[9].Fingerprint}} {
		asks = append(asks, func() error {
			list, err := m.store.Fingerprints(ctx, f, 100)
			if err == nil && len(list) == 0 {
				err = errors.New("there are none")
			}
			return err
		})
	}
	return asks
}

// show asks for a few entries.
func (m *million) show(ctx context.Context) (asks []func() error) {
	for range 10 {
		e := m.seen[rand.N(len(m.seen))]
		asks = append(asks, func() error {
			_, err := m.store.Show(ctx, e.ID)
			return err
		})
	}
	return asks
}

func (m *million) close() error {
	if m.store == nil {
		return nil
	}
	return m.store.Close()
}
