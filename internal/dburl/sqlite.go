package dburl

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/postbus/postbus/internal/params"
)

// InMemory is the File of a database that lives in its process alone.
const InMemory = ":memory:"

// File returns the name of the file that an SQLite URL names, or InMemory.
func File(u *url.URL) (string, error) {
	file := u.Opaque
	if file == "" {
		file = u.Host + u.Path
	}
	file, err := url.PathUnescape(file)
	if err != nil || strings.IndexByte(file, 0) >= 0 {
		return "", fmt.Errorf("the name of the file is malformed")
	}
	if file == "" {
		return "", fmt.Errorf("the URL names no file; sqlite:FILE or sqlite::memory: does")
	}
	return file, nil
}

func sqlite(u *url.URL, r *params.Reader) (Target, error) {
	file, err := File(u)
	if err != nil {
		return Target{}, err
	}
	busy, synchronous, pages := 10*time.Second, "full", 0
	r.Duration("busy_timeout", &busy)
	r.OneOf("synchronous", &synchronous, "full", "normal", "extra", "off")
	r.Int("max_page_count", &pages, 1)
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()),
		"journal_mode(wal)", "synchronous(" + synchronous + ")", "foreign_keys(1)",
	}}
	if pages > 0 {
		q.Add("_pragma", fmt.Sprintf("max_page_count(%d)", pages))
	}
	memory := file == InMemory
	dsn := "file:" + (&url.URL{Path: file}).EscapedPath() + "?" + q.Encode()
	if memory {
		dsn = "file::memory:?" + q.Encode()
	}
	return Target{Dialect: "sqlite", open: func(ctx context.Context) (Handle, error) {
		db, err := sql.Open("sqlite", dsn)
		if err != nil {
			return Handle{}, err
		}
		conns := 4
		if memory {
			conns = 1 // each connection would have a database of its own
		}
		db.SetMaxOpenConns(conns)
		db.SetMaxIdleConns(conns)
		db.SetConnMaxIdleTime(0)
		db.SetConnMaxLifetime(0)
		// The busy timeout does not hold while another one gives the file its write-ahead log or, as the last that closes it,
		// takes it away (sqlite.org/wal.html, "Sometimes queries return SQLITE_BUSY in WAL mode").
		for end := time.Now().Add(busy); isBusy(db.PingContext(ctx)) && ctx.Err() == nil && time.Now().Before(end); {
			time.Sleep(busyPause)
		}
		return Handle{DB: db}, nil
	}}, nil
}

// busyPause is the time between attempts to open a file that is busy.
const busyPause = 5 * time.Millisecond

func isBusy(err error) bool {
	var lite *driver.Error
	return errors.As(err, &lite) && lite.Code()&0xff == sqlite3.SQLITE_BUSY
}
