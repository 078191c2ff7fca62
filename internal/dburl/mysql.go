package dburl

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/postbus/postbus/internal/params"
)

func mySQL(u *url.URL, r *params.Reader) (Target, error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", u.Host
	if u.Port() == "" {
		cfg.Addr = net.JoinHostPort(u.Hostname(), "3306")
	}
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.DBName = strings.TrimPrefix(u.Path, "/")
	cfg.Timeout = connectTimeout
	// Rows that match count as affected although nothing changed: the fence of a lease is told by them.
	cfg.ClientFoundRows = true
	cfg.InterpolateParams = true // one round trip instead of three
	cfg.Collation = "utf8mb4_bin"
	// Whether a transaction sees others' commits must not depend on the server's settings.
	cfg.Params = map[string]string{"transaction_isolation": "'READ-COMMITTED'"}
	socket, conns := "", 8
	r.String("socket", &socket)
	r.String("tls", &cfg.TLSConfig)
	r.Duration("timeout", &cfg.Timeout)
	r.Duration("read_timeout", &cfg.ReadTimeout)
	r.Duration("write_timeout", &cfg.WriteTimeout)
	r.Int("pool_max_conns", &conns, 1)
	if socket != "" {
		cfg.Net, cfg.Addr = "unix", socket
	}
	cfg.Logger = &mysql.NopLogger{}
	cfg.DialFunc = dial
	return Target{Dialect: "mysql", open: func(ctx context.Context) (Handle, error) {
		if cfg.DBName == "" {
			return Handle{}, fmt.Errorf("the URL names no database: mysql://user@host/DATABASE")
		}
		// The driver bounds dialling by it, and not the server's silence after that.
		ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
		defer cancel()
		maria, err := isMariaDB(ctx, cfg)
		if err != nil {
			return Handle{}, fmt.Errorf("connect: %w", err)
		}
		if maria { // until 11.1 it knows the variable by its old name only
			cfg.Params = map[string]string{"tx_isolation": "'READ-COMMITTED'"}
		}
		connector, err := mysql.NewConnector(cfg)
		if err != nil {
			return Handle{}, err
		}
		db := sql.OpenDB(connector)
		db.SetMaxOpenConns(conns)
		db.SetMaxIdleConns(conns)
		db.SetConnMaxIdleTime(time.Minute)
		return Handle{DB: db}, nil
	}}, nil
}

func isMariaDB(ctx context.Context, cfg *mysql.Config) (bool, error) {
	plain := cfg.Clone()
	plain.Params = nil
	connector, err := mysql.NewConnector(plain)
	if err != nil {
		return false, err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	var version string
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return false, err
	}
	return strings.Contains(version, "MariaDB"), nil
}
