package sqllogtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// BadURLs opens base, a URL with a query, with parameters that are wrong; more are those of one driver, each with a part
// of the error that it must give.
func BadURLs(t *testing.T, base string, more map[string]string) {
	t.Helper()
	all := map[string]string{
		"leese=7s":           `unknown parameter "leese"; known: `,
		"lease=7":            `parameter lease="7" must be`,
		"lease=1ms":          "at least 100ms",
		"partitions=0":       "partitions",
		"partitions=2000":    "partitions 2000 must be 1 to 1024",
		"retention=-1h":      "retention",
		"poll_interval=10us": "at least 1ms",
	}
	maps.Copy(all, more)
	for query, want := range all {
		tr, err := transport.Open(t.Context(), base+"&"+query)
		if err == nil {
			_ = tr.Close()
			t.Errorf("%s was opened", query)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// ForeignTable publishes to a topic whose table exists and has other columns: the table stays as it is.
func ForeignTable(t *testing.T, url string) {
	t.Helper()
	f := &fixture{T: t, url: url, topic: Unique("other")}
	f.exec("CREATE TABLE watermill_" + f.topic + " (id int)")
	tr := f.open("")
	for what, err := range map[string]error{
		"Publish":   tr.Publish(f.Context(), f.topic, []transport.Message{message("1")}),
		"Subscribe": subscribeError(f, tr),
	} {
		if err == nil || !strings.Contains(err.Error(), `table "watermill_`+f.topic+`" exists and is not as watermill-sql makes it`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.exec("INSERT INTO watermill_" + f.topic + " (id) VALUES (1)")
}

func subscribeError(f *fixture, tr transport.Transport) error {
	s, err := tr.Subscribe(f.Context(), transport.SubscribeConfig{Topic: f.topic, Group: "g"})
	if err == nil {
		_ = s.Close()
	}
	return err
}

// InvalidJSON publishes what is not JSON to a table whose payload is: it fails alone of its batch.
func InvalidJSON(t *testing.T, url string) {
	t.Helper()
	f := &fixture{T: t, url: url, topic: Unique("json")}
	tr := f.open("")
	err := tr.Publish(t.Context(), f.topic, []transport.Message{{ID: "1", Payload: []byte("{}")}, {ID: "2", Payload: []byte("{")}, {ID: "3"}})
	var partial *transport.PublishError
	if !errors.As(err, &partial) || partial.Errs[0] != nil || !errors.Is(partial.Errs[1], transport.ErrInvalid) || partial.Errs[2] != nil ||
		!strings.Contains(err.Error(), "payload=bytea") {
		t.Errorf("got %v", err)
	}
	f.want(ids(f.subscribe(tr, transport.SubscribeConfig{}).receive(2)), "1/1 3/1")
}

// DeepJSON publishes JSON that is nested deeper than the database takes, which only that knows: it fails alone of its batch.
func DeepJSON(t *testing.T, url string) {
	t.Helper()
	f := &fixture{T: t, url: url, topic: Unique("deep")}
	tr := f.open("")
	const depth = 9000 // encoding/json has a limit of 10,000
	msgs := []transport.Message{message("1"), message("deep"), message("3")}
	msgs[1].Payload = []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))
	err := tr.Publish(t.Context(), f.topic, msgs)
	var partial *transport.PublishError
	if !errors.As(err, &partial) || partial.Errs[0] != nil || !errors.Is(partial.Errs[1], transport.ErrInvalid) || partial.Errs[2] != nil {
		t.Errorf("got %v", err)
	}
	f.want(ids(f.subscribe(tr, transport.SubscribeConfig{}).receive(2)), "1/1 3/1")
	db, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Tx(t.Context(), func(tx *sql.Tx) error {
		return tr.(interface {
			PublishTx(ctx context.Context, tx store.Execer, topic string, msgs []transport.Message) error
		}).PublishTx(t.Context(), tx, f.topic, msgs[1:2])
	})
	if !errors.Is(err, transport.ErrInvalid) {
		t.Errorf("within a transaction: %v", err)
	}
}

// refuse has a table refuse rows in which the column is as the condition says, until allow.
func (f *fixture) refuse(table, column, condition string) (allow func()) {
	f.Helper()
	db, err := store.Open(f.Context(), f.url)
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	q, undo := "ALTER TABLE "+table+" ADD CONSTRAINT refuse_"+table+" CHECK (NOT "+column+" "+condition+")", "ALTER TABLE "+table+" DROP CONSTRAINT refuse_"+table
	if db.Dialect() == store.SQLite {
		undo = "DROP TRIGGER refuse_" + table
		q = "CREATE TRIGGER refuse_" + table + " BEFORE INSERT ON " + table + " WHEN NEW." + column + " " + condition +
			" BEGIN SELECT RAISE(ABORT, 'refused'); END"
	}
	f.exec(q)
	return func() { f.Helper(); f.exec(undo) }
}

// someBad returns 100 messages, of which the uuids of 3 begin with "bad", and what deliveries of the others look like.
func someBad() (msgs []transport.Message, want string) {
	var good []string
	for i := range 100 {
		id := fmt.Sprint(i)
		if i == 17 || i == 18 || i == 99 {
			id = "bad" + id
		} else {
			good = append(good, id+"/1")
		}
		msgs = append(msgs, message(id))
	}
	return msgs, strings.Join(good, " ")
}

// badRows: of one call, what only the database knows to be bad fails alone, and the rest is there in its order.
func badRows(f *fixture) {
	tr := f.open("")
	c := f.subscribe(tr, transport.SubscribeConfig{})
	f.refuse("watermill_"+f.topic, "uuid", "LIKE 'bad%'")
	msgs, want := someBad()
	err := tr.Publish(f.Context(), f.topic, msgs)
	var partial *transport.PublishError
	if !errors.As(err, &partial) || len(partial.Errs) != len(msgs) {
		f.Fatalf("got %v", err)
	}
	for i, err := range partial.Errs {
		if bad := strings.HasPrefix(msgs[i].ID, "bad"); bad != (err != nil) || bad && !errors.Is(err, transport.ErrInvalid) {
			f.Errorf("%s: %v", msgs[i].ID, err)
		}
	}
	f.want(ids(c.receive(len(msgs)-3)), want)
	if err := tr.Publish(f.Context(), f.topic, []transport.Message{message("bad")}); !errors.Is(err, transport.ErrInvalid) || errors.As(err, &partial) {
		f.Errorf("alone: %v", err)
	}
	c.nothing(50 * time.Millisecond)
}
