package rabbitmq

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// QueueType is a type of RabbitMQ's queues.
type QueueType string

// The queue types for groups.
const (
	// Quorum queues are replicated and count deliveries.
	Quorum QueueType = "quorum"
	// Classic queues are what watermill-amqp declares by default.
	Classic QueueType = "classic"
)

// Defaults of Config.
const (
	DefaultMaxPayload     = 16 << 20
	DefaultWindow         = 4096
	DefaultHeartbeat      = 10 * time.Second
	DefaultConnectTimeout = 10 * time.Second
)

// Config configures a transport. Only URL is required.
type Config struct {
	// URL is amqp:// or amqps:// with user, password, host, port and virtual host, by RabbitMQ's URI specification. Its
	// query must be empty: the fields below say the rest. [transport.Open] takes the URL with its query.
	URL string
	// PasswordFile names a file that holds the password; it is read at each connect, and a line break at its end is
	// dropped. Default: the URL's password.
	PasswordFile string
	// ExternalAuth lets the broker take the user from the TLS certificate.
	ExternalAuth bool
	// TLS is used for amqps. Default: the system's authorities and the URL's host; its ServerName, if empty, is that host.
	TLS *tls.Config
	// CACertFile, CertFile and KeyFile are PEM files, read at each connect and added to TLS. CertFile and KeyFile go
	// together.
	CACertFile, CertFile, KeyFile string

	// Queue is the type of the queues of groups. Default: Quorum.
	Queue QueueType
	// SingleActiveConsumer makes one subscription of a group active at a time; that keeps the order.
	SingleActiveConsumer bool
	// Mandatory makes a message that reaches no queue an error, [ErrUnroutable]. Otherwise it is counted and logged.
	Mandatory bool
	// MaxPayload is the largest payload in bytes. The broker has its own limit, 128 MiB up to RabbitMQ 3.13 and 16 MiB
	// from 4.0 unless configured; a message between the two fails with transport.ErrTooLarge as well, but costs the
	// connection. Default: DefaultMaxPayload.
	MaxPayload int
	// Window is how many messages wait for their confirms at once. Default: DefaultWindow.
	Window int
	// Heartbeat is the interval of heartbeats, at least a second. Default: DefaultHeartbeat.
	Heartbeat time.Duration
	// ConnectTimeout bounds a connect, and how long a call waits for a connection to be up. Default:
	// DefaultConnectTimeout.
	ConnectTimeout time.Duration
	// Name is shown in the broker's lists of connections and consumers. Default: "postbus".
	Name string
	// Logger gets state changes and unroutable messages. Default: slog.Default().
	Logger *slog.Logger

	firstPause time.Duration // between attempts to connect; tests shorten it
}

// endpoint is what the URL says.
type endpoint struct {
	tls      bool
	addr     string
	host     string
	vhost    string
	username string
	password string
}

// withDefaults returns a checked copy of c with its defaults filled in. All mistakes are reported at once.
func (c Config) withDefaults() (Config, endpoint, error) {
	at, err := parseEndpoint(c.URL)
	errs := []error{err}
	if c.Queue == "" {
		c.Queue = Quorum
	}
	if c.Queue != Quorum && c.Queue != Classic {
		errs = append(errs, fmt.Errorf("queue type %q must be quorum or classic", c.Queue))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, errors.New("certificate file and key file go together"))
	}
	if err == nil && !at.tls && (c.TLS != nil || c.CACertFile != "" || c.CertFile != "" || c.ExternalAuth) {
		errs = append(errs, errors.New("certificates and external authentication need amqps"))
	}
	defaultTo(&c.MaxPayload, DefaultMaxPayload)
	defaultTo(&c.Window, DefaultWindow)
	defaultTo(&c.Heartbeat, DefaultHeartbeat)
	defaultTo(&c.ConnectTimeout, DefaultConnectTimeout)
	defaultTo(&c.firstPause, firstPause)
	if c.Heartbeat < time.Second {
		errs = append(errs, fmt.Errorf("heartbeat %v must be at least 1s", c.Heartbeat))
	}
	if c.Name == "" {
		c.Name = "postbus"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, at, errors.Join(errs...)
}

func defaultTo[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// parseEndpoint reads the URL. Its errors do not quote it, for it can hold a password.
func parseEndpoint(raw string) (endpoint, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return endpoint{}, errors.New("URL: malformed (its text is withheld, for it can hold a password)")
	}
	if u.Scheme != "amqp" && u.Scheme != "amqps" {
		return endpoint{}, fmt.Errorf("URL: scheme %q must be amqp or amqps", u.Scheme)
	}
	if u.RawQuery != "" {
		return endpoint{}, errors.New("URL: a query is read by transport.Open only; set the fields of Config instead")
	}
	parsed, err := amqp.ParseURI(raw)
	if err != nil {
		return endpoint{}, errors.New("URL: malformed (its text is withheld, for it can hold a password)")
	}
	return endpoint{
		tls:      u.Scheme == "amqps",
		addr:     fmt.Sprintf("%s:%d", bracketed(parsed.Host), parsed.Port),
		host:     parsed.Host,
		vhost:    parsed.Vhost,
		username: parsed.Username,
		password: parsed.Password,
	}, nil
}

func bracketed(host string) string {
	for i := range len(host) {
		if host[i] == ':' {
			return "[" + host + "]"
		}
	}
	return host
}
