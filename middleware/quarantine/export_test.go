package quarantine

import (
	"errors"
	"testing"
	"time"

	"github.com/postbus/postbus/store"
)

// ErrCrash stands for the end of the process.
var ErrCrash = errors.New("crash")

// ClaimLease is claimLease.
const ClaimLease = claimLease

// CrashAt lets s end at a point.
func CrashAt(s *Store, point string) {
	s.crash = func(at string) error {
		if at == point {
			return ErrCrash
		}
		return nil
	}
}

// Age makes all claims older.
func Age(t testing.TB, db *store.DB, by time.Duration) {
	t.Helper()
	s := &Store{db: db}
	if _, err := s.exec(t.Context(), db.SQL(), "UPDATE postbus_quarantine SET claim_ms = claim_ms - ? WHERE claim_ms > 0", by.Milliseconds()+1); err != nil {
		t.Fatal(err)
	}
}

// Past makes all that has happened longer ago.
func Past(t testing.TB, db *store.DB, by time.Duration) {
	t.Helper()
	s := &Store{db: db}
	if _, err := s.exec(t.Context(), db.SQL(), "UPDATE postbus_quarantine SET last_ms = last_ms - ?", by.Milliseconds()); err != nil {
		t.Fatal(err)
	}
}
