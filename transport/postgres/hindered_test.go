package postgres_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/postgres"
)

// soon is when a message that the table would refuse at once is due: not before it is published.
const soon = 2 * time.Second

// later publishes one message for topic, for soon.
func later(t *testing.T, tr transport.Transport, topic, id string, in time.Duration) {
	t.Helper()
	if err := tr.Publish(t.Context(), topic, []transport.Message{{ID: id, NotBefore: time.Now().Add(in)}}); err != nil {
		t.Fatal(err)
	}
}

func execute(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

// TestALockedTableHoldsUpNoOther: the delayed messages of other topics come while somebody has locked the table of one.
func TestALockedTableHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	rawURL := testdb.New(t, testservices.Postgres(t))
	db, tr := connect(t, rawURL), open(t, rawURL)
	other := subscribe(t, tr, "other", "g")
	locked := subscribe(t, tr, "locked", "g")
	lock, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback() }()
	if _, err := lock.Exec(`LOCK TABLE watermill_locked IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	later(t, tr, "locked", "1", soon)
	var waits, numbered int
	poll(t, "somebody waits for the table", func() bool {
		err := db.QueryRow(`SELECT count(*), count(x.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid AND a.datname = current_database()
			LEFT JOIN pg_locks x ON x.pid = l.pid AND x.locktype = 'transactionid'
			WHERE NOT l.granted AND l.relation = 'watermill_locked'::regclass`).Scan(&waits, &numbered)
		if err != nil {
			t.Fatal(err)
		}
		return waits > 0
	})
	if numbered > 0 {
		t.Error("who waits has a transaction id, and holds up all logs")
	}
	later(t, tr, "other", "2", 0)
	later(t, tr, "other", "3", time.Millisecond)
	got := receive(t, other, 2)
	slices.Sort(got) // what is due at once does not wait for what has to be moved
	want(t, got, "2", "3")
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	want(t, receive(t, locked, 1), "1")
}

// TestATopicInTroubleHoldsUpNoOther: also when nobody can say what became of a transaction.
func TestATopicInTroubleHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	rawURL := testdb.New(t, testservices.Postgres(t))
	db, tr := connect(t, rawURL), open(t, rawURL)
	other := subscribe(t, tr, "n", "g")
	execute(t, db, `CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trouble' USING ERRCODE = '57014'; END $$`)
	for i := range 6 {
		topic := fmt.Sprint("trouble", i)
		later(t, tr, topic, "1", 300*time.Millisecond)
		execute(t, db, "CREATE TRIGGER t BEFORE INSERT ON watermill_"+topic+" FOR EACH ROW EXECUTE FUNCTION trouble()")
	}
	later(t, tr, "n", "2", 400*time.Millisecond)
	want(t, receive(t, other, 1), "2")
}

// TestADeadlockPutsNothingOff: a transaction that lost against others runs again.
func TestADeadlockPutsNothingOff(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), testdb.New(t, testservices.Postgres(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var said bytes.Buffer
	tr, err := postgres.New(t.Context(), db, postgres.Config{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	topic := sqllogtest.Unique("deadlock")
	s := subscribe(t, tr, topic, "g")
	execute(t, db.SQL(), "CREATE SEQUENCE times")
	execute(t, db.SQL(), `CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN IF nextval('times') <= 2 THEN RAISE EXCEPTION 'lost' USING ERRCODE = '40P01'; END IF; RETURN NEW; END $$`)
	execute(t, db.SQL(), "CREATE TRIGGER t BEFORE INSERT ON watermill_"+topic+" FOR EACH ROW EXECUTE FUNCTION lose()")
	later(t, tr, topic, "1", soon)
	want(t, receive(t, s, 1), "1")
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	if text := said.String(); strings.Contains(text, "delayed messages") {
		t.Errorf("it said: %s", text)
	}
}
