package outbox

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/internal/wire"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// Layout is how events wait in the database.
type Layout uint8

const (
	// Topic: as messages on a topic of the SQL transports.
	Topic Layout = iota
	// Debezium: in the table postbus_debezium, laid out as the outbox event router of Debezium expects, on PostgreSQL and
	// MySQL, so that one of its connectors can forward them:
	//
	//	id             the id of the message, or a UUID derived from it where that has no place in 36 characters
	//	aggregatetype  the topic
	//	aggregateid    the key of the event; the id of the message where it has none
	//	type           the name of the event
	//	payload        the event as JSON
	//	headers        the rest of the envelope, as an object of texts, for table.fields.additional.placement
	//	created_at     the time, in UTC on PostgreSQL, for table.field.event.timestamp
	//
	// On PostgreSQL a Forwarder with Tail reads it, too, and removes what it has forwarded. A connector removes nothing:
	// rows that it has passed are the operator's to delete. Events with bus.After or bus.At, and payloads that are not
	// JSON, are refused.
	Debezium
)

//go:embed debezium
var debeziumMigrations embed.FS

const debeziumTable = "postbus_debezium"

// debezium writes messages into the table.
type debezium struct{ dialect store.Dialect }

// debeziumRows is how many rows one statement inserts, at most.
const debeziumRows = 1000

// PublishTx takes messages that are wrapped: one statement is for all topics.
func (d debezium) PublishTx(ctx context.Context, tx store.Execer, _ string, msgs []transport.Message) error {
	args := make([]any, 0, 6*len(msgs))
	for i := range msgs {
		m, topic := unwrap(&msgs[i])
		if err := debeziumPayload(&m); err != nil {
			return err
		}
		id, headers := wire.Encode(&m, 36)
		text, err := json.Marshal(headers)
		if err != nil {
			return err
		}
		key := m.Key
		if key == "" {
			key = id
		}
		args = append(args, id, topic, key, m.Name, string(m.Payload), string(text))
	}
	for len(args) > 0 {
		n := min(len(args), 6*debeziumRows)
		q := "INSERT INTO " + debeziumTable + " (id, aggregatetype, aggregateid, type, payload, headers) VALUES " +
			strings.TrimSuffix(strings.Repeat("(?,?,?,?,?,?),", n/6), ",")
		if _, err := tx.ExecContext(ctx, d.dialect.Bind(q), args[:n]...); err != nil {
			return err
		}
		args = args[n:]
	}
	return nil
}

// debeziumPayload checks what the column would refuse, for then the transaction could not go on.
func debeziumPayload(m *transport.Message) error {
	if len(m.Payload) == 0 {
		m.Payload = []byte("null")
	}
	if !json.Valid(m.Payload) || !utf8.Valid(m.Payload) || bytes.Contains(m.Payload, []byte(`\u0000`)) {
		return fmt.Errorf("%w: message %q: its payload must be JSON without the character 0, for the layout Debezium", transport.ErrInvalid, m.ID)
	}
	return nil
}

// Cancel finds nothing: there is nothing for later.
func (debezium) Cancel(context.Context, store.Execer, string) (bool, error) { return false, nil }

func (debezium) Wake(string) {}

// debeziumTail is the table as one that is tailed.
func debeziumTail(db *sql.DB) *tailTable {
	return &tailTable{db: db, name: debeziumTable, columns: []string{"id", "aggregatetype", "payload", "headers"},
		message: func(text func(string) []byte) (*transport.Message, error) {
			m := sqllog.Decode(string(text("id")), text("headers"), text("payload"))
			return &wrap(nil, string(text("aggregatetype")), []transport.Message{*m})[0], nil
		}}
}

// checkDebezium reports what the layout does not go with.
func (b *Box) checkDebezium() error {
	var errs []error
	if b.db.Dialect() == store.SQLite {
		errs = append(errs, errors.New("the layout Debezium: there is no connector for SQLite; PostgreSQL and MySQL are possible"))
	}
	if b.cfg.Transport != nil {
		errs = append(errs, errors.New("with a Transport events go straight to their topics, and not into a table of the layout"))
	}
	if b.cfg.Name != DefaultName {
		errs = append(errs, fmt.Errorf("the Name %q: the table of the layout is %s, one in a database", b.cfg.Name, debeziumTable))
	}
	return errors.Join(errs...)
}
