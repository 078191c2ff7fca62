package intake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// read returns the lines of r as "number:text".
func read(t testing.TB, r io.Reader) (lines []string, err error) {
	t.Helper()
	to, failed := make(chan numbered), make(chan error, 1)
	go func() {
		defer close(to)
		failed <- scan(t.Context(), r, to)
	}()
	for l := range to {
		text := string(l.text)
		if l.err != nil {
			text = l.err.Error()
		}
		lines = append(lines, fmt.Sprintf("%d:%s", l.number, text))
	}
	return lines, <-failed
}

func TestScan(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("x", MaxLine)
	for name, tc := range map[string]struct {
		input string
		want  []string
	}{
		"empty":                {"", nil},
		"only ends":            {"\n\r\n  \n", nil},
		"no end":               {"a\nb", []string{"1:a", "2:b"}},
		"CRLF":                 {"a\r\nb\r\n", []string{"1:a", "2:b"}},
		"CR within":            {"a\rb\n", []string{"1:a\rb"}},
		"BOM":                  {"\ufeffa\nb", []string{"1:a", "2:b"}},
		"BOM alone":            {"\ufeff", nil},
		"BOM in the middle":    {"a\n\ufeffb", []string{"1:a", "2:\ufeffb"}},
		"numbers of the input": {"\n\na\n\nb\n", []string{"3:a", "5:b"}},
		"not UTF-8":            {"\xff\x00\n", []string{"1:\xff\x00"}},
		"as long as allowed":   {full + "\r\nb", []string{"1:" + full, "2:b"}},
		"too long":             {"a\n" + full + "x\nb", []string{"1:a", "2:longer than 16 MiB", "3:b"}},
		"too long, and last":   {full + full, []string{"1:longer than 16 MiB"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := read(t, strings.NewReader(tc.input))
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("got %.200q, error %v; want %.200q", got, err, tc.want)
			}
		})
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte("a\r\nb\n\nc"))
	f.Add([]byte("\ufeff{}\n\x00\xff"))
	f.Fuzz(func(t *testing.T, input []byte) {
		var want []string
		for i, text := range bytes.Split(bytes.TrimPrefix(input, []byte("\ufeff")), []byte("\n")) {
			if i < bytes.Count(input, []byte("\n")) {
				text = bytes.TrimSuffix(text, []byte("\r"))
			} else if len(text) > 0 && text[len(text)-1] == '\r' {
				text = text[:len(text)-1] // a CRLF that was cut off
			}
			if len(bytes.TrimSpace(text)) > 0 {
				want = append(want, fmt.Sprintf("%d:%s", i+1, text))
			}
		}
		got, err := read(t, iotest.OneByteReader(bytes.NewReader(input)))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, error %v; want %q", got, err, want)
		}
	})
}

func TestLinesHaveTheSameIDsEachTime(t *testing.T) {
	t.Parallel()
	ids := map[string]int{}
	for range 2 {
		for i, text := range []string{"{}", "{}", "no JSON"} {
			ids[numbered{number: i + 1, text: []byte(text)}.id()]++
		}
	}
	if len(ids) != 3 {
		t.Errorf("ids %v: want three, the same both times", ids)
	}
}

func TestCodecChangesNoByteOfALine(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", " { \"a\":1}", "no JSON", "\xff\x00"} {
		if got, err := Codec.Marshal(Line{[]byte(text)}); err != nil || string(got) != text {
			t.Errorf("line %q becomes %q, error %v", text, got, err)
		}
	}
	if got, err := Codec.Marshal(map[string]int{"a": 1}); err != nil || string(got) != `{"a":1}` {
		t.Errorf("another event becomes %q, error %v; want its JSON", got, err)
	}
}

func TestFeedEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r, w := io.Pipe()
		if err := (&Feed{}).Run(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want that of the context", err)
		}
		_ = w.Close()
	})
}
