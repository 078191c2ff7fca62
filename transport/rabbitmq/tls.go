package rabbitmq

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

func tlsFor(serverName string) *tls.Config {
	return &tls.Config{ServerName: serverName, MinVersion: tls.VersionTLS12}
}

// tlsConfig reads the files anew, so that certificates can be replaced while the program runs.
func (c *Config) tlsConfig(host string) (*tls.Config, error) {
	cfg := c.TLS.Clone()
	if cfg == nil {
		cfg = tlsFor("")
	}
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	if c.CACertFile != "" {
		pem, err := os.ReadFile(c.CACertFile)
		if err != nil {
			return nil, fmt.Errorf("cacertfile: %w", err)
		}
		if cfg.RootCAs == nil {
			cfg.RootCAs = x509.NewCertPool()
		} else {
			cfg.RootCAs = cfg.RootCAs.Clone()
		}
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("cacertfile: %s holds no certificate in PEM form", c.CACertFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("certfile and keyfile: %w", err)
		}
		cfg.Certificates = append(cfg.Certificates[:len(cfg.Certificates):len(cfg.Certificates)], pair)
	}
	return cfg, nil
}

// auth returns what the broker shall check.
func (c *Config) auth(at endpoint) ([]amqp.Authentication, error) {
	if c.ExternalAuth {
		return []amqp.Authentication{&amqp.ExternalAuth{}}, nil
	}
	password := at.password
	if c.PasswordFile != "" {
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("password_file: %w", err)
		}
		password = strings.TrimRight(string(text), "\r\n")
	}
	return []amqp.Authentication{&amqp.PlainAuth{Username: at.username, Password: password}}, nil
}
