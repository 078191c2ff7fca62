package transport_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postbus/postbus/transport"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func good() transport.Message {
	return transport.Message{
		ID: "0197c1f0-7c3e-7000-8000-000000000001", Name: "orders.placed", Version: 2, Key: "größe 漢字 📦",
		CorrelationID: "c", CausationID: "p", ContentType: "application/json", TargetGroup: "billing",
		Metadata: map[string]string{"a": "", "größe": "\u0001 is UTF-8"}, Payload: []byte("\x00\xff"), Attempts: 3,
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(m *transport.Message)
		want   string // in the error; empty for none
	}{
		"good":               {func(*transport.Message) {}, ""},
		"only an ID":         {func(m *transport.Message) { *m = transport.Message{ID: "x"} }, ""},
		"no ID":              {func(m *transport.Message) { m.ID = "" }, "no ID"},
		"negative version":   {func(m *transport.Message) { m.Version = -1 }, "version -1"},
		"negative attempts":  {func(m *transport.Message) { m.Attempts = -1 }, "attempts -1"},
		"ID":                 {func(m *transport.Message) { m.ID = "a\xffb" }, `ID "a\xffb"`},
		"Name":               {func(m *transport.Message) { m.Name = "a\x00b" }, `Name "a\x00b"`},
		"Key":                {func(m *transport.Message) { m.Key = "a\xff" }, `Key "a\xff"`},
		"CorrelationID":      {func(m *transport.Message) { m.CorrelationID = "\xff" }, `CorrelationID`},
		"CausationID":        {func(m *transport.Message) { m.CausationID = "\xff" }, `CausationID`},
		"ContentType":        {func(m *transport.Message) { m.ContentType = "\xff" }, `ContentType`},
		"TargetGroup":        {func(m *transport.Message) { m.TargetGroup = "\xff" }, `TargetGroup`},
		"metadata key":       {func(m *transport.Message) { m.Metadata["\xff"] = "x" }, `metadata "\xff"`},
		"metadata value":     {func(m *transport.Message) { m.Metadata["x"] = "\x00" }, `metadata "x"="\x00"`},
		"empty metadata key": {func(m *transport.Message) { m.Metadata[""] = "x" }, `metadata ""="x"`},
		"same correlation":   {func(m *transport.Message) { m.CorrelationID = m.ID }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := good()
			test.change(&m)
			err := m.Check()
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && (!errors.Is(err, transport.ErrInvalid) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want an ErrInvalid that says %s", err, test.want)
			}
		})
	}
}

// Check looks at texts in pieces of eight bytes: a flaw must be found at each place.
func FuzzCheckTexts(f *testing.F) {
	for n := range 20 {
		for i := range n {
			for _, flaw := range []string{"\x00", "\xff", "é", "\x80", "\x7f", "\x01"} {
				f.Add(strings.Repeat("a", i) + flaw + strings.Repeat("b", n-i-1))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		want := utf8.ValidString(text) && !strings.Contains(text, "\x00")
		for field, m := range map[string]transport.Message{
			"ID": {ID: text}, "Name": {ID: "x", Name: text}, "metadata": {ID: "x", Metadata: map[string]string{"x": text}},
		} {
			if text == "" && field == "ID" {
				continue
			}
			if err := m.Check(); (err == nil) != want {
				t.Errorf("%s %q: %v", field, text, err)
			}
		}
	})
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"orders": "",
		"a":      "",
		"orders.placed v2 größe 📦 '; drop -- ": "begin or end with a space",
		"orders placed":                "",
		`'; drop table messages; --`:   "",
		"\u200b":                       "",
		strings.Repeat("x", 255):       "",
		strings.Repeat("é", 127) + "x": "",
		strings.Repeat("x", 256):       "has 256 bytes, 255 are allowed",
		strings.Repeat("é", 128):       "has 256 bytes, 255 are allowed",
		"":                             "must not be empty",
		" ":                            "begin or end with a space",
		" a":                           "begin or end with a space",
		"a\u00a0":                      "begin or end with a space",
		"a\u3000":                      "begin or end with a space",
		"a\n":                          "space",
		"a\x00b":                       "control characters",
		"a\tb":                         "control characters",
		"a\x7fb":                       "control characters",
		"a\u0085b":                     "control characters",
		"a\xffb":                       "must be UTF-8",
	} {
		err := transport.CheckName("topic", name)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q was refused: %v", name, err)
		case want != "" && (!errors.Is(err, transport.ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "topic")):
			t.Errorf("%.40q: got %v, want an ErrInvalid of the topic that says %s", name, err, want)
		}
	}
}

func FuzzCheckName(f *testing.F) {
	for _, name := range []string{"orders", "", " a", "a\u0085b", "\xff", strings.Repeat("é", 128), "a\x7f", "\u2028a"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		err := transport.CheckName("group", name)
		if err != nil {
			if !errors.Is(err, transport.ErrInvalid) {
				t.Errorf("%q: %v is not ErrInvalid", name, err)
			}
			if !utf8.ValidString(err.Error()) || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("the error %q cannot be printed", err)
			}
		}
		ok := name != "" && len(name) <= transport.MaxNameLength && utf8.ValidString(name) &&
			!strings.ContainsFunc(name, unicode.IsControl) && strings.TrimSpace(name) == name
		if ok != (err == nil) {
			t.Errorf("%q: %v", name, err)
		}
		cfg := transport.SubscribeConfig{Topic: "t", Group: name}
		if (cfg.Check() == nil) != ok {
			t.Errorf("SubscribeConfig.Check: %v", cfg.Check())
		}
	})
}

func TestCheckBatch(t *testing.T) {
	t.Parallel()
	bad, large, later, aimed := good(), good(), good(), good()
	bad.ID = ""
	large.Payload = make([]byte, 11)
	later.NotBefore = time.Now()
	plain := good()
	plain.TargetGroup, large.TargetGroup, later.TargetGroup = "", "", ""
	for name, test := range map[string]struct {
		caps  transport.Capabilities
		topic string
		msgs  []transport.Message
		want  []error // of each message; one for all of them
		all   bool
	}{
		"nothing":           {transport.Capabilities{}, "t", nil, nil, false},
		"good":              {transport.Capabilities{Target: true}, "t", []transport.Message{plain, aimed}, nil, false},
		"topic":             {transport.Capabilities{}, " t", []transport.Message{plain, plain}, []error{transport.ErrInvalid}, true},
		"topic of nothing":  {transport.Capabilities{}, "", nil, []error{transport.ErrInvalid}, true},
		"one bad":           {transport.Capabilities{}, "t", []transport.Message{bad}, []error{transport.ErrInvalid}, true},
		"large":             {transport.Capabilities{MaxPayload: 10}, "t", []transport.Message{large}, []error{transport.ErrTooLarge}, true},
		"as large as may":   {transport.Capabilities{MaxPayload: 11}, "t", []transport.Message{large}, nil, false},
		"later":             {transport.Capabilities{}, "t", []transport.Message{later}, []error{transport.ErrUnsupported}, true},
		"later and allowed": {transport.Capabilities{Delay: true}, "t", []transport.Message{later}, nil, false},
		"aimed":             {transport.Capabilities{}, "t", []transport.Message{aimed}, []error{transport.ErrUnsupported}, true},
		"several": {
			transport.Capabilities{MaxPayload: 10}, "t", []transport.Message{plain, bad, plain, large, aimed, later},
			[]error{nil, transport.ErrInvalid, nil, transport.ErrTooLarge, transport.ErrUnsupported, transport.ErrUnsupported}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := transport.CheckBatch(test.caps, test.topic, test.msgs)
			partial, isPartial := errors.AsType[*transport.PublishError](err)
			switch {
			case test.want == nil:
				if err != nil {
					t.Errorf("got %v, want nil", err)
				}
			case test.all:
				if isPartial || !errors.Is(err, test.want[0]) {
					t.Errorf("got %T %v, want an error for all that is %v", err, err, test.want[0])
				}
			case !isPartial || len(partial.Errs) != len(test.want):
				t.Errorf("got %T %v, want a PublishError of %d messages", err, err, len(test.want))
			default:
				for i, want := range test.want {
					if !errors.Is(partial.Errs[i], want) || want == nil && partial.Errs[i] != nil {
						t.Errorf("message %d: %v, want %v", i, partial.Errs[i], want)
					}
				}
			}
		})
	}
}

func TestPublishError(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	err := error(&transport.PublishError{Errs: []error{nil, transport.ErrTooLarge, nil, cause}})
	if !errors.Is(err, cause) || !errors.Is(err, transport.ErrTooLarge) || errors.Is(err, transport.ErrInvalid) {
		t.Errorf("%v does not match its causes", err)
	}
	if want := "2 of 4 messages were not published: " + transport.ErrTooLarge.Error(); err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	all := transport.Capabilities{
		Durable: true, Order: transport.OrderPerTopic, Delay: true, Target: true, Replay: true, Transactional: true,
		Values: true, MaxPayload: 100,
	}
	for name, test := range map[string]struct {
		has, need transport.Capabilities
		want      []string
	}{
		"nothing needed":    {transport.Capabilities{}, transport.Capabilities{}, nil},
		"all":               {all, all, nil},
		"no limit is more":  {transport.Capabilities{}, transport.Capabilities{MaxPayload: 1 << 40}, nil},
		"stronger order":    {all, transport.Capabilities{Order: transport.OrderPerKey}, nil},
		"weaker order":      {transport.Capabilities{Order: transport.OrderPerKey}, transport.Capabilities{Order: transport.OrderPerTopic}, []string{"order per topic (has per key)"}},
		"everything needed": {transport.Capabilities{MaxPayload: 10}, all, []string{"durable", "delay", "target", "replay", "transactional", "values", "order per topic (has none)", "payloads of 100 bytes (has 10)"}},
	} {
		if got := test.has.Missing(test.need); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	at := time.Now()
	for _, test := range []struct {
		start transport.Start
		now   bool
		at    time.Time
	}{
		{transport.Start{}, false, time.Time{}}, {transport.StartBeginning(), false, time.Time{}},
		{transport.StartNow(), true, time.Time{}}, {transport.StartAt(at), false, at},
	} {
		if test.start.Now() != test.now || !test.start.Time().Equal(test.at) {
			t.Errorf("got %v and %v, want %v and %v", test.start.Now(), test.start.Time(), test.now, test.at)
		}
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()
	for value, want := range map[interface{ String() string }]string{
		transport.OrderNone: "none", transport.OrderPerKey: "per key", transport.OrderPerTopic: "per topic", transport.Order(9): "Order(9)",
		transport.Ack: "ack", transport.Requeue: "requeue", transport.Release: "release", transport.Outcome(9): "invalid outcome",
	} {
		if value.String() != want {
			t.Errorf("got %q, want %q", value, want)
		}
	}
}
