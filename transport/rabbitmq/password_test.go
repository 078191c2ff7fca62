package rabbitmq_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/rabbitmq"
)

func TestPasswordStaysSecret(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(brokerURL(t))
	if err != nil {
		t.Fatal(err)
	}
	u.User, u.RawQuery = url.UserPassword("nobody", "s3cr3t-pass"), "connect_timeout="+patience.String()
	_, err = transport.Open(t.Context(), u.String())
	if err == nil {
		t.Fatal("a wrong password opened the transport")
	}
	if got := err.Error(); strings.Contains(got, "s3cr3t") || !strings.Contains(got, `"nobody"`) {
		t.Errorf("the error must name the user and not the password: %s", got)
	}
}

// TestPasswordFile changes the password while the program runs.
func TestPasswordFile(t *testing.T) {
	t.Parallel()
	p := newProxy(t, brokerURL(t))
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	right, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(right)
	var logged lockedBuffer
	tr := openQuiet(t, u.String(), func(c *rabbitmq.Config) {
		c.PasswordFile, c.ConnectTimeout = file, 30*time.Second
		c.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	topic := unique(t)
	publish(t, tr, topic, messages("m", 1)...)

	write("s3cr3t-and-wrong")
	before := time.Now()
	p.cut()
	var down rabbitmq.LinkStatus
	eventually(t, "the password is refused", func() bool {
		down = tr.Status().Publish
		return down.State == rabbitmq.Down && down.Err != nil && strings.Contains(down.Err.Error(), "refused")
	})
	if down.Since.Before(before) || down.Since.After(time.Now()) {
		t.Errorf("down since %v, and cut at %v", down.Since, before)
	}
	refused := tr.Publish(t.Context(), topic, messages("m", 1))
	if refused == nil || !strings.Contains(refused.Error(), "not connected for 30s") || !strings.Contains(refused.Error(), "wrong password") {
		t.Errorf("publish while the password is refused: %v", refused)
	}
	write(right)
	stubborn(t, tr, topic, messages("m", 1)...)
	eventually(t, "the log tells what happened", func() bool {
		said := logged.String()
		return strings.Contains(said, "connection lost") && strings.Contains(said, "up again")
	})
	said := fmt.Sprint(refused, down.Err, logged.String())
	for _, secret := range []string{"s3cr3t", u.User.Username() + ":" + right} {
		if strings.Contains(said, secret) {
			t.Errorf("the password was said: %s", said)
		}
	}
}

// lockedBuffer is written by the transport while the test reads it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
