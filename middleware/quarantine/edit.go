package quarantine

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/postbus/postbus/transport"
)

// Edit changes what a replay of an entry sends. What came is kept, and shown beside it.
type Edit struct {
	// Payload replaces that of the message. Default, nil: it stays; an empty one that is not nil is an empty payload.
	Payload []byte
	// Metadata is set over that of the message; an empty value removes the key. Default: it stays.
	Metadata map[string]string
	// Undo begins from what came, instead of from what an earlier edit has made of it.
	Undo bool
	// Force takes a message that cannot be decoded.
	Force bool
}

// Edit changes what a replay of an entry sends. It must wait, or be parked, else the error matches ErrStatus. A message
// that cannot be decoded is refused, with ErrUndecodable, unless e says Force: a payload of a content type of JSON must be
// well-formed, and Config.Check, if there is one, must take the message.
func (s *Store) Edit(ctx context.Context, id int64, e Edit) error {
	if err := s.edit(ctx, id, e); err != nil {
		return fmt.Errorf("quarantine: edit %d: %w", id, err)
	}
	return nil
}

func (s *Store) edit(ctx context.Context, id int64, e Edit) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		var status Status
		var group, headers string
		var edited sql.NullString
		var newBody bool
		var payload, newPayload []byte
		q := `SELECT status, grp, headers, payload, new_headers, new_body, new_payload FROM postbus_quarantine WHERE id = ?` + s.forUpdate(false)
		err := tx.QueryRowContext(ctx, s.bind(q), id).Scan(&status, &group, &headers, &payload, &edited, &newBody, &newPayload)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		if status != Waiting && status != Parked {
			return fmt.Errorf("%w: it is %s; only an entry that is %s or %s can be edited", ErrStatus, status, Waiting, Parked)
		}
		m, changed, err := messages(headers, payload, edited, newBody, newPayload)
		if err != nil {
			return err
		}
		if e.Undo {
			newBody, newPayload = false, nil
		} else if changed != nil {
			m = *changed
		}
		if e.Payload != nil {
			m.Payload, newBody, newPayload = e.Payload, true, e.Payload
		}
		m.Metadata = merged(m.Metadata, e.Metadata)
		if err := m.Check(); err != nil {
			return err
		}
		if err := s.decodable(group, &m); err != nil && !e.Force {
			return err
		}
		edited = sql.NullString{String: text(headersOf(&m)), Valid: !e.Undo || e.Payload != nil || len(e.Metadata) > 0}
		_, err = s.exec(ctx, tx, "UPDATE postbus_quarantine SET new_headers = ?, new_body = ?, new_payload = ? WHERE id = ?",
			edited, number(newBody), newPayload, id)
		return err
	})
}

// merged returns metadata with changes.
func merged(metadata, changes map[string]string) map[string]string {
	if len(changes) == 0 {
		return metadata
	}
	out := map[string]string{}
	maps.Copy(out, metadata)
	for k, v := range changes {
		if v == "" {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// decodable returns why a message cannot be decoded, as far as is known.
func (s *Store) decodable(group string, m *transport.Message) error {
	kind, _, _ := strings.Cut(m.ContentType, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	if kind == "application/json" || strings.HasSuffix(kind, "+json") {
		var v any
		if err := json.Unmarshal(m.Payload, &v); err != nil {
			return fmt.Errorf("%w: %w", ErrUndecodable, err)
		}
	}
	if s.cfg.Check == nil {
		return nil
	}
	if err := s.cfg.Check(group, m); err != nil {
		return fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	return nil
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
