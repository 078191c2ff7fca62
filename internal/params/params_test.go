package params_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/params"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type config struct {
	share    bool
	size     int
	wait     time.Duration
	name     string
	exchange string
}

func read(t *testing.T, query string) (config, error) {
	t.Helper()
	u, err := url.Parse("test:?" + query)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config{size: 7, wait: time.Second, exchange: "topic"}
	r := params.Read(u)
	r.Bool("share", &cfg.share)
	r.Int("size", &cfg.size, 2)
	r.Duration("wait", &cfg.wait)
	r.String("name", &cfg.name)
	r.OneOf("exchange", &cfg.exchange, "topic", "fanout")
	return cfg, r.Err()
}

func TestRead(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]config{
		"":                                   {false, 7, time.Second, "", "topic"},
		"share=true&size=2&wait=1h30m":       {true, 2, 90 * time.Minute, "", "topic"},
		"name=a%20b%26c&exchange=fanout":     {false, 7, time.Second, "a b&c", "fanout"},
		"share=0&name=":                      {false, 7, time.Second, "", "topic"},
		"wait=1ns&size=9223372036854775807&": {false, 9223372036854775807, 1, "", "topic"},
	} {
		got, err := read(t, query)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", query, got, err, want)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	const known = "known: exchange, name, share, size, wait"
	for query, want := range map[string][]string{
		"share=ja":                  {`share="ja" must be true or false`},
		"size=1":                    {`size="1" must be a whole number of at least 2`},
		"size=1.5":                  {`size="1.5"`},
		"size=":                     {`size=""`},
		"size=99999999999999999999": {`at least 2`},
		"wait=0s":                   {`wait="0s" must be a positive duration with its unit, such as "10s"`},
		"wait=-1s":                  {`wait="-1s"`},
		"wait=10":                   {`wait="10"`},
		"exchange=direct":           {`exchange="direct" must be one of topic, fanout`},
		"size=2&size=3":             {"size is given 2 times"},
		"sise=3&Share=true":         {`unknown parameter "sise"; ` + known, `unknown parameter "Share"; ` + known},
		"a=1;b=2":                   {"query"},
		"%zz":                       {"query"},
		"size=x&wait=y&zz=1":        {`size="x"`, `wait="y"`, `"zz"`},
		"secret@host%2Fdb=":         {"withheld", known},
	} {
		_, err := read(t, query)
		if err == nil {
			t.Errorf("%q was accepted", query)
			continue
		}
		for _, text := range want {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%q: the error does not say %q:\n%v", query, text, err)
			}
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", query, err)
		}
	}
}

func TestAMistakeChangesNothing(t *testing.T) {
	t.Parallel()
	got, err := read(t, "share=ja&size=1&wait=x&exchange=x")
	if want := (config{false, 7, time.Second, "", "topic"}); err == nil || got != want {
		t.Errorf("got %+v, want the defaults, and an error: %v", got, err)
	}
}

func TestNoParameters(t *testing.T) {
	t.Parallel()
	r := params.Read(&url.URL{Scheme: "test", RawQuery: "x=1"})
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "known: none") {
		t.Errorf("got %v", err)
	}
}
