package rabbitmq

import (
	"context"
	"net/url"

	"github.com/postbus/postbus/internal/params"
	"github.com/postbus/postbus/transport"
)

func init() {
	transport.Register("amqp", openURL)
	transport.Register("amqps", openURL)
}

func openURL(ctx context.Context, u *url.URL) (transport.Transport, error) {
	cfg, err := configOf(u)
	if err != nil {
		return nil, err
	}
	t, err := Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func configOf(u *url.URL) (Config, error) {
	var cfg Config
	queue, auth := string(Quorum), "plain"
	p := params.Read(u)
	p.OneOf("queue", &queue, string(Quorum), string(Classic))
	p.Bool("single-active-consumer", &cfg.SingleActiveConsumer)
	p.Bool("mandatory", &cfg.Mandatory)
	p.Int("max_payload", &cfg.MaxPayload, 1)
	p.Int("window", &cfg.Window, 1)
	p.Duration("heartbeat", &cfg.Heartbeat)
	p.Duration("connect_timeout", &cfg.ConnectTimeout)
	p.String("name", &cfg.Name)
	p.String("password_file", &cfg.PasswordFile)
	p.String("cacertfile", &cfg.CACertFile)
	p.String("certfile", &cfg.CertFile)
	p.String("keyfile", &cfg.KeyFile)
	serverName := ""
	p.String("server_name_indication", &serverName)
	p.OneOf("auth_mechanism", &auth, "plain", "external")
	if err := p.Err(); err != nil {
		return Config{}, err
	}
	cfg.Queue, cfg.ExternalAuth = QueueType(queue), auth == "external"
	if serverName != "" {
		cfg.TLS = tlsFor(serverName)
	}
	bare := *u
	bare.RawQuery, bare.ForceQuery = "", false
	cfg.URL = bare.String()
	return cfg, nil
}
