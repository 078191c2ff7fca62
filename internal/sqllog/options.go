package sqllog

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/postbus/postbus/internal/params"
)

// Options are the fields that the drivers' Configs share, with zeros where the user said nothing.
type Options struct {
	PayloadBytes bool
	Lease        time.Duration
	Poll         time.Duration
	Partitions   int
	Retention    time.Duration
	StallAfter   time.Duration
	Passive      bool // as in Config
	Harmless     bool // as in Config
	Listen       bool // hear notices by a connection of its own, where the database has them
	Logger       *slog.Logger
}

// Defaults of Options.
const (
	DefaultLease      = 7 * time.Second
	DefaultRetention  = 7 * 24 * time.Hour
	DefaultStallAfter = 10 * time.Second
	idlePoll          = time.Second
	leastLease        = 100 * time.Millisecond
)

// ReadParams reads the parameters of a URL that are Options.
func (o *Options) ReadParams(r *params.Reader, payload bool) {
	r.Duration("lease", &o.Lease)
	r.Duration("poll_interval", &o.Poll)
	r.Int("partitions", &o.Partitions, 1)
	r.Duration("retention", &o.Retention)
	if payload {
		r.Duration("stall_warning", &o.StallAfter)
		kind := "json"
		r.OneOf("payload", &kind, "json", "bytea")
		o.PayloadBytes = kind == "bytea"
	}
}

// config fills in the defaults; poll is the driver's.
func (o *Options) config(poll time.Duration) (Config, error) {
	cfg := Config{JSON: !o.PayloadBytes, Lease: o.Lease, Poll: o.Poll, Partitions: o.Partitions, Retention: o.Retention,
		StallAfter: o.StallAfter, Passive: o.Passive, Harmless: o.Harmless, Logger: o.Logger}
	if cfg.Lease == 0 {
		cfg.Lease = DefaultLease
	}
	if cfg.Poll == 0 {
		cfg.Poll = poll
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = 1
	}
	if cfg.Retention == 0 {
		cfg.Retention = DefaultRetention
	}
	if cfg.StallAfter == 0 {
		cfg.StallAfter = DefaultStallAfter
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	var errs []error
	if cfg.Lease < leastLease {
		errs = append(errs, fmt.Errorf("lease %v must be at least %v", cfg.Lease, leastLease))
	}
	if cfg.Poll < time.Millisecond {
		errs = append(errs, fmt.Errorf("poll interval %v must be at least 1ms", cfg.Poll))
	}
	if cfg.Partitions < 1 || cfg.Partitions > MaxPartitions {
		errs = append(errs, fmt.Errorf("partitions %d must be 1 to %d", cfg.Partitions, MaxPartitions))
	}
	return cfg, errors.Join(errs...)
}
