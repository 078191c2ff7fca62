package dburl

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/postbus/postbus/internal/params"
)

// postgresParams are the parameters of libpq and of pgxpool that pass through.
var postgresParams = []string{
	"sslmode", "sslcert", "sslkey", "sslrootcert", "sslpassword", "application_name", "connect_timeout", "host", "port",
	"user", "password", "dbname", "search_path", "options", "target_session_attrs", "timezone", "statement_timeout",
	"synchronous_commit", "pool_max_conns", "pool_min_conns", "pool_max_conn_lifetime", "pool_max_conn_idle_time",
	"pool_health_check_period", "default_query_exec_mode",
}

// connectTimeout bounds connecting where the URL does not say.
const connectTimeout = 5 * time.Second

// pingTimeout is how long a connection that was idle may take for a sign of life, before another one is taken: after a
// failure of the network or of the server's machine, all are silent.
const pingTimeout = 2 * time.Second

func postgres(u *url.URL, r *params.Reader) (Target, error) {
	pass := url.Values{}
	for _, name := range postgresParams {
		var v string
		if r.String(name, &v); v != "" {
			pass.Set(name, v)
		}
	}
	stripped := *u
	stripped.RawQuery = strings.ReplaceAll(pass.Encode(), "+", "%20") // pgx, as libpq, takes "+" for itself
	return Target{Dialect: "postgres", open: func(ctx context.Context) (Handle, error) {
		cfg, err := pgxpool.ParseConfig(stripped.String())
		if err != nil {
			return Handle{}, err // pgconn redacts the password
		}
		if !pass.Has("connect_timeout") {
			cfg.ConnConfig.ConnectTimeout = connectTimeout
		}
		if !pass.Has("pool_max_conns") {
			cfg.MaxConns = 8
		}
		cfg.PingTimeout = pingTimeout
		cfg.ConnConfig.DialFunc = dial
		pool, err := pgxpool.NewWithConfig(ctx, cfg)
		if err != nil {
			return Handle{}, err
		}
		return Handle{DB: stdlib.OpenDBFromPool(pool), Pool: pool}, nil
	}}, nil
}
