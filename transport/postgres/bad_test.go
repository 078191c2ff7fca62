package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/transport"
)

// TestInvalidJSONFailsAlone: of one batch, and what another caller publishes at the same time is not touched.
func TestInvalidJSONFailsAlone(t *testing.T) {
	t.Parallel()
	tr := open(t, database(t))
	topic := sqllogtest.Unique("json")
	err := tr.Publish(t.Context(), topic, []transport.Message{{ID: "1", Payload: []byte("{}")}, {ID: "2", Payload: []byte("{")}, {ID: "3"}})
	var partial *transport.PublishError
	if !errors.As(err, &partial) || partial.Errs[0] != nil || !errors.Is(partial.Errs[1], transport.ErrInvalid) || partial.Errs[2] != nil ||
		!strings.Contains(err.Error(), "payload=bytea") {
		t.Errorf("got %v", err)
	}
	want(t, receive(t, subscribe(t, tr, topic, "g"), 2), "1", "3")
}

func TestTableWithOtherColumns(t *testing.T) {
	t.Parallel()
	rawURL := database(t)
	topic := sqllogtest.Unique("other")
	if _, err := connect(t, rawURL).Exec("CREATE TABLE watermill_" + topic + " (id int)"); err != nil {
		t.Fatal(err)
	}
	err := open(t, rawURL).Publish(t.Context(), topic, []transport.Message{{ID: "1"}})
	if err == nil || !strings.Contains(err.Error(), "exists and is not as watermill-sql makes it") {
		t.Errorf("got %v", err)
	}
}
