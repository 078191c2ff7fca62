package wire_test

import (
	"bytes"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/components/cqrs"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/postbus/postbus/internal/wire"
	"github.com/postbus/postbus/transport"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var published = time.Date(2026, 7, 1, 12, 30, 15, 123456789, time.FixedZone("", 2*60*60))

func TestEncodeWritesEachFieldUnderItsKey(t *testing.T) {
	t.Parallel()
	m := transport.Message{
		ID: "0197c1f0-7c3e-7000-8000-000000000001", Name: "orders.placed", Version: 2, Key: "o1", Time: published,
		CorrelationID: "c", CausationID: "p", ContentType: "application/json", TargetGroup: "billing",
		NotBefore: published.Add(time.Hour), Attempts: 3, Metadata: map[string]string{"traceparent": "00-1-2-01"},
	}
	want := map[string]string{
		"name": "orders.placed", "correlation_id": "c", "postbus_version": "2", "postbus_key": "o1",
		"postbus_time": "2026-07-01T10:30:15.123456789Z", "postbus_causation_id": "p",
		"postbus_content_type": "application/json", "postbus_target_group": "billing",
		"postbus_not_before": "2026-07-01T11:30:15.123456789Z", "postbus_attempts": "3", "traceparent": "00-1-2-01",
	}
	uuid, metadata := wire.Encode(&m, 36)
	if uuid != m.ID || !maps.Equal(metadata, want) {
		t.Errorf("got %q and %v, want %q and %v", uuid, metadata, m.ID, want)
	}
}

func TestKeysAreWatermills(t *testing.T) {
	t.Parallel()
	msg, err := cqrs.JSONMarshaler{GenerateName: func(any) string { return "orders.placed" }}.Marshal(struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	middleware.SetCorrelationID("c", msg)
	m := wire.Decode(msg.UUID, msg.Metadata, msg.Payload)
	if m.Name != "orders.placed" || m.CorrelationID != "c" || m.Metadata != nil || string(m.Payload) != "{}" {
		t.Errorf("Watermill's CQRS message was decoded to %+v", m)
	}
}

func TestEmptyFieldsAreNotWritten(t *testing.T) {
	t.Parallel()
	uuid, metadata := wire.Encode(&transport.Message{ID: "1", Metadata: map[string]string{}}, 0)
	if uuid != "1" || metadata != nil {
		t.Errorf("got %q and %v, want no metadata", uuid, metadata)
	}
}

func TestUUIDOfIDsThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, id := range []string{strings.Repeat("x", 37), "größe", "two words", "tail "} {
		m := transport.Message{ID: id}
		uuid, metadata := wire.Encode(&m, 36)
		again, _ := wire.Encode(&m, 36)
		if len(uuid) != 36 || uuid != again || uuid[14] != '8' || !strings.ContainsRune("89ab", rune(uuid[19])) {
			t.Errorf("ID %q became UUID %q, then %q", id, uuid, again)
		}
		if got := wire.Decode(uuid, metadata, nil); got.ID != id || got.Metadata != nil {
			t.Errorf("ID %q came back in %+v", id, got)
		}
		if uuid, _ := wire.Encode(&m, 0); uuid != id {
			t.Errorf("a carrier of any text got %q instead of %q", uuid, id)
		}
	}
}

func TestTimesOutsideOfTheFormatStayAway(t *testing.T) {
	t.Parallel()
	m := transport.Message{ID: "1", NotBefore: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)}
	uuid, metadata := wire.Encode(&m, 0)
	if got := wire.Decode(uuid, metadata, nil); got.NotBefore.Year() != 9999 {
		t.Errorf("NotBefore in the year 20000 came back as %v", got.NotBefore)
	}
	m.NotBefore = time.Date(-7, 1, 1, 0, 0, 0, 0, time.UTC)
	uuid, metadata = wire.Encode(&m, 0)
	if got := wire.Decode(uuid, metadata, nil); got.NotBefore.Year() != 0 {
		t.Errorf("NotBefore in the year -7 came back as %v", got.NotBefore)
	}
}

func TestForeignValues(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		metadata map[string]string
		want     transport.Message
	}{
		"none": {nil, transport.Message{}},
		"number that is none": {
			map[string]string{"postbus_version": "two", "postbus_attempts": "-1"},
			transport.Message{Metadata: map[string]string{"postbus_version": "two", "postbus_attempts": "-1"}},
		},
		"number too large": {
			map[string]string{"postbus_attempts": "99999999999999999999"},
			transport.Message{Metadata: map[string]string{"postbus_attempts": "99999999999999999999"}},
		},
		"time that is none": {
			map[string]string{"postbus_time": "soon", "postbus_not_before": "2026-13-01T00:00:00Z"},
			transport.Message{Metadata: map[string]string{"postbus_time": "soon", "postbus_not_before": "2026-13-01T00:00:00Z"}},
		},
		"time of another zone": {
			map[string]string{"postbus_time": "2026-07-01T12:00:00+02:00"},
			transport.Message{Time: time.Date(2026, 7, 1, 10, 0, 0, 0, time.UTC)},
		},
		"empty values, unknown keys": {
			map[string]string{"name": "", "postbus_key": "", "postbus_new": "1", "postbus_meta_x": "2", "": "3"},
			transport.Message{Metadata: map[string]string{"name": "", "postbus_key": "", "postbus_new": "1", "postbus_meta_x": "2", "\uFFFD": "3"}},
		},
		"not UTF-8, NUL": {
			map[string]string{"name": "a\xff", "b\x00": "1", "b\xff": "2", "c": "\x00", "postbus_meta_postbus_\xfe": "4"},
			transport.Message{Name: "a\uFFFD", Metadata: map[string]string{
				"b\uFFFD": "1", "b\uFFFD\uFFFD": "2", "c": "\uFFFD", "postbus_\uFFFD": "4"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.want.ID = "1"
			got := wire.Decode("1", maps.Clone(test.metadata), nil)
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if err := got.Check(); err != nil {
				t.Errorf("it cannot be published again: %v", err)
			}
		})
	}
}

func TestEmptyUUID(t *testing.T) {
	t.Parallel()
	if m := wire.Decode("", nil, nil); m.ID != "" {
		t.Errorf("got ID %q; it is the carrier that knows a stable one", m.ID)
	}
}

// texts are likely to collide with keys of fields, their escapes and each other.
var texts = rapid.OneOf(
	rapid.SampledFrom([]string{
		"name", "correlation_id", "postbus_", "postbus_id", "postbus_version", "postbus_time", "postbus_not_before",
		"postbus_target_group", "postbus_attempts", "postbus_meta_", "postbus_meta_name", "postbus_meta_postbus_key",
		"postbus_meta_postbus_meta_name", "postbus_meta_x", "x", "2026-07-01T12:00:00Z", "7", "\uFFFD",
	}),
	rapid.StringMatching(`[^\x00]+`),
)

func TestWhatIsEncodedDecodesToTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := func(label string) string { return rapid.OneOf(rapid.Just(""), texts).Draw(t, label) }
		at := func(label string) time.Time {
			if rapid.Bool().Draw(t, label+" set") {
				return time.Unix(rapid.Int64Range(-62167219200, 253402300799).Draw(t, label), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC()
			}
			return time.Time{}
		}
		m := transport.Message{
			ID: texts.Draw(t, "ID"), Name: text("name"), Key: text("key"), CorrelationID: text("correlation"),
			CausationID: text("causation"), ContentType: text("content type"), TargetGroup: text("target"),
			Version: rapid.IntRange(0, 3).Draw(t, "version"), Attempts: rapid.IntRange(0, 3).Draw(t, "attempts"),
			Time: at("time"), NotBefore: at("not before"), Payload: rapid.SliceOf(rapid.Byte()).Draw(t, "payload"),
			Metadata: rapid.MapOf(texts, rapid.OneOf(rapid.Just(""), texts)).Draw(t, "metadata"),
		}
		if len(m.Metadata) == 0 {
			m.Metadata = nil
		}
		if err := m.Check(); err != nil {
			t.Skip(err)
		}
		before := maps.Clone(m.Metadata)
		uuid, metadata := wire.Encode(&m, rapid.SampledFrom([]int{0, 36}).Draw(t, "maxUUID"))
		if got := wire.Decode(uuid, metadata, m.Payload); !reflect.DeepEqual(got, m) {
			t.Fatalf("%+v\nwas encoded as %q %q and came back as\n%+v", m, uuid, metadata, got)
		}
		if !maps.Equal(before, m.Metadata) {
			t.Fatal("the metadata of the message was changed")
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add("1", "postbus_version", "2", "postbus_meta_name", "x", []byte("{}"))
	f.Add("\xff", "", "\x00", "postbus_meta_postbus_\xff", "", []byte(nil))
	f.Fuzz(func(t *testing.T, uuid, k1, v1, k2, v2 string, payload []byte) {
		m := wire.Decode(uuid, map[string]string{k1: v1, k2: v2}, payload)
		if m.ID == "" {
			m.ID = "1"
		}
		if err := m.Check(); err != nil {
			t.Fatalf("%+v cannot be published again: %v", m, err)
		}
		uuid, metadata := wire.Encode(&m, 36)
		if again := wire.Decode(uuid, metadata, payload); !reflect.DeepEqual(again, m) || !bytes.Equal(again.Payload, payload) {
			t.Fatalf("%+v came back as %+v", m, again)
		}
	})
}
