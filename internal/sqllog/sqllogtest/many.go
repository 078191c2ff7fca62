package sqllogtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// ManyLater has a topic carry some delayed and targeted messages while n others wait for a later day, half of them for one
// group. What that costs the database is for the caller to measure; start is called once the others wait. Transports
// that open makes are closed.
func ManyLater(t *testing.T, db *store.DB, open func() transport.Transport, n int, start func()) {
	t.Helper()
	f := &fixture{T: t, topic: Unique("many")}
	if err := open().Close(); err != nil { // it has made the table
		t.Fatal(err)
	}
	numbers := map[store.Dialect]string{
		store.Postgres: "SELECT generate_series(1, ?) AS i",
		store.MySQL:    "SELECT seq AS i FROM seq_1_to_1000000 WHERE seq <= ?",
		store.SQLite:   "WITH RECURSIVE r (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < ?) SELECT i FROM r",
	}[db.Dialect()]
	day := time.Now().Add(24 * time.Hour).UnixMilli()
	for _, group := range []string{"", "g"} {
		_, err := db.SQL().ExecContext(t.Context(), db.Dialect().Bind(fmt.Sprintf(`INSERT INTO postbus_later (topic, grp, due_ms, hash, uuid, metadata)
			SELECT '%s', '%s', %d + i, i, 'later', '{}' FROM (%s) numbers`, f.topic, group, day, numbers)), n/2)
		if err != nil {
			t.Fatal(err)
		}
	}
	start()
	tr := open()
	defer func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}()
	c := f.subscribe(tr, transport.SubscribeConfig{})
	for i := range 5 {
		soon := time.Now().Add(50 * time.Millisecond)
		targeted, both := message(fmt.Sprint("targeted", i)), delayed(fmt.Sprint("both", i), soon)
		targeted.TargetGroup, both.TargetGroup = "g", "g"
		f.publish(tr, message(fmt.Sprint("now", i)), delayed(fmt.Sprint("delayed", i), soon), targeted, both)
		c.ack(c.receive(4)...)
	}
}
