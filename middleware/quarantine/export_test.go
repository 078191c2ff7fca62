package quarantine

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/store"
)

// ErrCrash stands for the end of the process.
var ErrCrash = errors.New("crash")

// ClaimLease is claimLease.
const ClaimLease = claimLease

// CrashAt lets s end at a point; at none, if that is empty. What it returns is closed when s gets there.
func CrashAt(s *Store, point string) <-chan struct{} {
	reached := make(chan struct{})
	reach := sync.OnceFunc(func() { close(reached) })
	crash := func(at string) error {
		if at == point {
			reach()
			return ErrCrash
		}
		return nil
	}
	s.crash.Store(&crash)
	return reached
}

// At has something happen at a point.
func At(s *Store, point string, do func()) {
	happen := func(at string) error {
		if at == point {
			do()
		}
		return nil
	}
	s.crash.Store(&happen)
}

// Age makes all claims older.
func Age(t testing.TB, db *store.DB, by time.Duration) {
	t.Helper()
	s := &Store{db: db}
	for _, q := range []string{
		"UPDATE postbus_quarantine SET claim_ms = claim_ms - ? WHERE claim_ms > 0",
		"UPDATE postbus_quarantine_key SET due_ms = due_ms - ? WHERE due_ms > 0",
	} {
		if _, err := s.exec(t.Context(), db.SQL(), q, by.Milliseconds()+1); err != nil {
			t.Fatal(err)
		}
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

// Lines counts the keys that are parked.
func Lines(t testing.TB, db *store.DB) (n int) {
	t.Helper()
	if err := db.SQL().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM postbus_quarantine_key").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Resume does what Run does now and then.
func Resume(t testing.TB, s *Store) {
	t.Helper()
	if err := s.resume(t.Context()); err != nil {
		t.Fatal(err)
	}
}
