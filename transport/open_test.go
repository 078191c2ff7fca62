package transport_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/postbus/postbus/transport"
)

// errRefused is what the opener of the scheme "refusing" returns.
var errRefused = errors.New("refused")

func init() {
	transport.Register("refusing", func(ctx context.Context, u *url.URL) (transport.Transport, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return nil, errRefused
	})
	transport.Register("opening", func(context.Context, *url.URL) (transport.Transport, error) { return opened{}, nil })
}

// opened is a transport that nobody uses.
type opened struct{ transport.Transport }

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, rawURL := range []string{"opening:", "OPENING:", "opening://user:secret@host/x?y=z"} {
		if tr, err := transport.Open(t.Context(), rawURL); err != nil || tr != (opened{}) {
			t.Errorf("%s: got %v, %v", rawURL, tr, err)
		}
	}
	if _, err := transport.Open(t.Context(), "refusing:"); !errors.Is(err, errRefused) {
		t.Errorf("the error of the driver was lost: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := transport.Open(ctx, "refusing:"); !errors.Is(err, context.Canceled) {
		t.Errorf("the context does not reach the driver: %v", err)
	}
}

func TestOpenOfUnknownSchemes(t *testing.T) {
	t.Parallel()
	for rawURL, want := range map[string][]string{
		"carrier-pigeon:": {`unknown scheme "carrier-pigeon"`, "linked in: opening, refusing", `import _ "github.com/postbus/postbus/transport/rabbitmq"`, "sqlite"},
		"":                {"no scheme", "linked in: opening, refusing"},
		"shop.db":         {"no scheme"},
		"postgres://x":    {`"postgres" is not linked in`, `import _ "github.com/postbus/postbus/transport/postgres"`},
		"amqps://x":       {`"amqps" is not linked in`, `import _ "github.com/postbus/postbus/transport/rabbitmq"`},
		"sqlite:x.db":     {`import _ "github.com/postbus/postbus/transport/sqlite"`},
	} {
		_, err := transport.Open(t.Context(), rawURL)
		if err == nil {
			t.Errorf("%q was opened", rawURL)
			continue
		}
		for _, text := range want {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%q: the error does not say %q:\n%v", rawURL, text, err)
			}
		}
	}
}

// Whatever a password holds, and however wrong the rest of the URL is, no error shows it.
func TestNoErrorShowsAPassword(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"hunter2", "hunter2%zz", "hunter2 x", "12/hunter2", "12?hunter2", "12#hunter2", "12@hunter2", "12:hunter2", "[hunter2", "%hunter2"} {
		for _, rawURL := range []string{
			"refusing://user:" + password + "@host/db", "refusing://user:" + password + "@host:port/db",
			"refusing://user:" + password + "@[::1/db", "refusing:user:" + password + "@host", "refusing:/user:" + password + "@host",
			"unknown://user:" + password + "@host/db", "postgres://user:" + password + "@host/db", "user:" + password + "@host/db",
			"://user:" + password + "@host", "refusing://user:" + password + "@host\n", "ref using://user:" + password + "@host",
		} {
			_, err := transport.Open(t.Context(), rawURL)
			if err == nil {
				t.Errorf("%s was opened", rawURL)
			} else if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error of %q shows the password: %v", rawURL, err)
			}
		}
	}
}

func TestRegisterPanics(t *testing.T) {
	t.Parallel()
	for name, register := range map[string]func(){
		"nil": func() { transport.Register("new", nil) },
		"twice": func() {
			transport.Register("opening", func(context.Context, *url.URL) (transport.Transport, error) { return nil, nil })
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: Register did not panic", name)
				}
			}()
			register()
		}()
	}
}

func TestWithinHandler(t *testing.T) {
	t.Parallel()
	if transport.WithinHandler(t.Context()) {
		t.Error("a plain context is within a handler")
	}
	if !transport.WithinHandler(context.WithValue(t.Context(), transport.HandlerKey{}, true)) {
		t.Error("a handler's context is not")
	}
}
