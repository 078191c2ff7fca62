package postgres_test

import (
	"testing"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
)

func TestDeepJSONFailsAlone(t *testing.T) {
	t.Parallel()
	sqllogtest.DeepJSON(t, database(t)+"&options=-c%20max_stack_depth%3D100kB")
}

func TestInvalidJSONFailsAlone(t *testing.T) { t.Parallel(); sqllogtest.InvalidJSON(t, database(t)) }

func TestTableWithOtherColumns(t *testing.T) { t.Parallel(); sqllogtest.ForeignTable(t, database(t)) }

func TestBadURLs(t *testing.T) {
	t.Parallel()
	sqllogtest.BadURLs(t, "postgres://u:secret@127.0.0.1:1/x?sslmode=disable", map[string]string{
		"payload=yaml":       "one of json, bytea",
		"busy_timeout=1s":    `unknown parameter "busy_timeout"`,
		"stall_warning=soon": `parameter stall_warning="soon" must be`,
	})
}
