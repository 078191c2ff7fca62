package sqllogtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// Silence: connections that fall silent are given up by what works in the background, too: a message that is due moves
// over a new one. The database is this test's alone, for others would move it.
func Silence(t *testing.T, url string) {
	t.Helper()
	s := testservices.NewSilencer(t, url)
	defer s.Close()
	f := &fixture{T: t, url: s.URL, topic: Unique("silence")}
	tr := f.open("")
	m := message("later")
	m.NotBefore = time.Now().Add(time.Second)
	f.publish(tr, message("now"), m)
	s.Silence()
	db, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	f.poll("the message is where groups find it", func() bool {
		var waiting, there int
		q := fmt.Sprintf("SELECT (SELECT COUNT(*) FROM postbus_later), (SELECT COUNT(*) FROM watermill_%s)", f.topic)
		if err := db.SQL().QueryRowContext(t.Context(), q).Scan(&waiting, &there); err != nil {
			t.Fatal(err)
		}
		return waiting == 0 && there == 2
	})
	f.poll("messages can be published", func() bool { // one may still meet a silent connection
		return tr.Publish(t.Context(), f.topic, []transport.Message{message("more")}) == nil
	})
}
