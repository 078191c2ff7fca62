package mysql_test

import (
	"database/sql"
	"strings"
	"testing"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport/mysql"
)

func TestDeepJSONFailsAlone(t *testing.T) { t.Parallel(); sqllogtest.DeepJSON(t, database(t)) }

func TestInvalidJSONFailsAlone(t *testing.T) { t.Parallel(); sqllogtest.InvalidJSON(t, database(t)) }

func TestTableWithOtherColumns(t *testing.T) { t.Parallel(); sqllogtest.ForeignTable(t, database(t)) }

func TestBadURLs(t *testing.T) {
	t.Parallel()
	sqllogtest.BadURLs(t, "mysql://u:secret@127.0.0.1:1/x?timeout=1s", map[string]string{
		"payload=yaml":   "one of json, bytea",
		"sslmode=off":    `unknown parameter "sslmode"`,
		"read_timeout=1": `parameter read_timeout="1" must be`,
	})
}

// TestMissingTableHidesNoOther: the heads of other topics are known.
func TestMissingTableHidesNoOther(t *testing.T) {
	t.Parallel()
	rawURL := testdb.New(t, testservices.MySQL(t)) // no other test makes the table again
	open(t, rawURL)                                // makes those of the log
	db, err := store.Open(t.Context(), rawURL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	topics := []string{sqllogtest.Unique("head"), sqllogtest.Unique("head"), sqllogtest.Unique("head")}
	heads, err := mysql.Heads(t.Context(), db, topics, func(table string) {
		if _, err := db.SQL().ExecContext(t.Context(), "DROP TABLE "+table); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, topic := range topics {
		if _, known := heads[topic]; known != (i > 0) {
			t.Errorf("topic %d of %d: known is %v", i, len(topics), known)
		}
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	rawURL := database(t)
	topic := sqllogtest.Unique("readonly")
	publish(t, open(t, rawURL), topic, "1")
	var version string
	if err := connect(t, rawURL).QueryRow("SELECT VERSION()").Scan(&version); err != nil {
		t.Fatal(err)
	}
	cfg, err := gomysql.ParseDSN(dsn(t, rawURL))
	if err != nil {
		t.Fatal(err)
	}
	cfg.ClientFoundRows = true
	cfg.Params = map[string]string{"transaction_read_only": "1"}
	if strings.Contains(version, "MariaDB") {
		cfg.Params = map[string]string{"tx_read_only": "1"}
	}
	connector, err := gomysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	tr, err := mysql.New(t.Context(), store.Use(db, store.MySQL), mysql.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	sqllogtest.ReadOnly(t, tr, topic)
	publish(t, open(t, rawURL), topic, "2")
	want(t, receive(t, subscribe(t, open(t, rawURL), topic, "g"), 2), "1", "2")
}

// dsn is the driver's form of a URL.
func dsn(t *testing.T, rawURL string) string {
	t.Helper()
	rest, _ := strings.CutPrefix(rawURL, "mysql://")
	user, rest, _ := strings.Cut(rest, "@")
	host, name, _ := strings.Cut(rest, "/")
	return user + "@tcp(" + host + ")/" + name
}
