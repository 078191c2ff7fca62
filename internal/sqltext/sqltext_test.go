package sqltext

import (
	"testing"

	"github.com/postbus/postbus/store"
)

func TestBind(t *testing.T) {
	t.Parallel()
	const q = "UPDATE t SET a = ?, b = ? WHERE c = ?"
	for d, want := range map[store.Dialect]string{
		store.Postgres: "UPDATE t SET a = $1, b = $2 WHERE c = $3", store.MySQL: q, store.SQLite: q,
	} {
		if got := Bind(d, q); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}
