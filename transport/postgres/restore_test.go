package postgres_test

import (
	"bytes"
	"database/sql"
	"os/exec"
	"testing"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/transport"
)

// halfHandled leaves five messages in a topic, of which the group g has handled the first and the third.
func halfHandled(t *testing.T, rawURL, topic string) {
	t.Helper()
	tr := open(t, rawURL)
	s := subscribe(t, tr, topic, "g")
	publish(t, tr, topic, "1", "2")
	publish(t, tr, topic, "3", "4")
	publish(t, tr, topic, "5")
	ds, err := s.Receive(t.Context(), 1)
	for err == nil && len(ds) < 5 {
		var more []transport.Delivery
		more, err = s.Receive(t.Context(), 5)
		ds = append(ds, more...)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context(), []transport.Settlement{{Tag: ds[0].Tag, Outcome: transport.Ack}, {Tag: ds[2].Tag, Outcome: transport.Ack}}); err != nil {
		t.Fatal(err)
	}
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
}

// goesOn publishes one more and has the group, and a new one, receive what they have not handled.
func goesOn(t *testing.T, rawURL, topic string) {
	t.Helper()
	tr := open(t, rawURL)
	publish(t, tr, topic, "6")
	want(t, receive(t, subscribe(t, tr, topic, "g"), 4), "2", "4", "5", "6")
	want(t, receive(t, subscribe(t, tr, topic, "new"), 6), "1", "2", "3", "4", "5", "6")
}

// TestDumpedAndRestored takes a dump to a fresh server, whose transaction ids begin anew, below those of the messages.
func TestDumpedAndRestored(t *testing.T) {
	t.Parallel()
	fresh := testservices.Private(t, "postgres")
	old, topic := testdb.New(t, testservices.Postgres(t)), sqllogtest.Unique("dump")
	db := connect(t, old)
	const ahead = 5000
	if _, err := db.Exec("CREATE PROCEDURE pass(n int) LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CALL pass($1::int)", ahead); err != nil {
		t.Fatal(err)
	}
	halfHandled(t, old, topic)
	var there, here int64
	const next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
	if err := db.QueryRow(next).Scan(&there); err != nil {
		t.Fatal(err)
	}
	if err := connect(t, fresh.URL).QueryRow(next).Scan(&here); err != nil {
		t.Fatal(err)
	}
	if there-here < ahead/2 {
		t.Fatalf("the fresh server is at transaction %d, the old one at %d: the test shows nothing", here, there)
	}
	dump := command(t, nil, "pg_dump", "--no-owner", old)
	command(t, dump, "psql", "--quiet", "--set=ON_ERROR_STOP=1", fresh.URL)
	goesOn(t, fresh.URL, topic)
}

func command(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, &stderr)
	}
	return out
}

// TestTransactionsFarAhead is the same without a second server: it moves transaction ids, and groups' offsets with them,
// far beyond those of the server.
func TestTransactionsFarAhead(t *testing.T) {
	t.Parallel()
	rawURL := database(t)
	topic := sqllogtest.Unique("ahead")
	halfHandled(t, rawURL, topic)
	db := connect(t, rawURL)
	const ahead = 1 << 40
	for _, q := range []string{
		`UPDATE "watermill_` + topic + `" SET transaction_id = (transaction_id::text::bigint + $1)::text::xid8`,
		`UPDATE "watermill_offsets_` + topic + `" SET last_processed_transaction_id = (last_processed_transaction_id::text::bigint + $1)::text::xid8`,
	} {
		if _, err := db.Exec(q, ahead); err != nil {
			t.Fatal(err)
		}
	}
	moveStates(t, db, topic, ahead)
	if _, err := db.Exec(`UPDATE postbus_topics SET origin = 'another' WHERE topic = $1`, topic); err != nil {
		t.Fatal(err)
	}
	goesOn(t, rawURL, topic)
}

func moveStates(t *testing.T, db *sql.DB, topic string, ahead uint64) {
	t.Helper()
	var raw []byte
	if err := db.QueryRow("SELECT state FROM postbus_groups WHERE topic = $1", topic).Scan(&raw); err != nil {
		t.Fatal(err)
	}
	raw, err := sqllog.MoveState(raw, func(p sqllog.Pos) (sqllog.Pos, error) {
		p.Tx += ahead
		return p, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("UPDATE postbus_groups SET state = $1 WHERE topic = $2", raw, topic); err != nil {
		t.Fatal(err)
	}
}
