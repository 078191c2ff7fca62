package describe_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/codec/protobuf"
	"github.com/postbus/postbus/describe"
	"github.com/postbus/postbus/transport/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type line struct {
	SKU    string   `json:"sku"`
	Amount uint     `json:"amount"`
	Of     *line    `json:"of,omitempty"`
	Notes  []string `json:"notes"`
}

type base struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

type placed struct {
	base
	*line
	Lines  []line             `json:"lines"`
	By     map[string]float64 `json:"by"`
	Raw    json.RawMessage    `json:"raw"`
	Bytes  []byte             `json:"bytes"`
	Cents  int64              `json:"cents,string"`
	Hidden string             `json:"-"`
	Plain  bool
	Ptr    *int    `json:"ptr"`
	Any    any     `json:"any"`
	Arr    [2]int8 `json:"arr"`
	secret string
}

func (placed) EventName() string { return "orders.placed" }

type paid struct {
	OrderID string `json:"order_id"`
}

func (*paid) EventName() string { return "orders.paid" }
func (*paid) EventVersion() int { return 2 }

type odd struct{}

func (odd) EventName() string { return `Łódź/"<b>#1` }

func program(t *testing.T) describe.Program {
	t.Helper()
	tr := memory.New(memory.Config{})
	t.Cleanup(func() { _ = tr.Close() })
	b, err := bus.New(bus.Config{Name: "shop", Transport: tr, Codecs: []codec.Codec{protobuf.Codec, codec.JSON}})
	if err != nil {
		t.Fatal(err)
	}
	bus.Handle(b, "billing", func(context.Context, placed) error { return nil })
	bus.Handle(b, "shipping", func(context.Context, placed) error { return nil })
	bus.Handle(b, "shipping", func(context.Context, *paid) error { return nil })
	bus.Handle(b, "saga.checkout", func(context.Context, placed) error { return nil })
	bus.Handle(b, "odd one", func(context.Context, odd) error { return nil })
	return describe.Program{Description: b.Describe(), Publishes: map[string][]bus.Event{
		"orders": {placed{}, bus.After(time.Hour, &paid{})}, "payments": {&paid{}},
		"billing": {&paid{}},
	}}
}

func TestMermaid(t *testing.T) {
	t.Parallel()
	const want = `flowchart LR
    module_orders["orders"]
    module_payments["payments"]
    topic_orders[("orders")]
    topic__c5_81_c3_b3d_c5_ba_2f_22_3cb_3e_231[("Łódź/#quot;#lt;b#gt;#35;1")]
    group_billing(["billing"])
    group_odd_20one(["odd one"])
    group_saga_2echeckout{{"saga.checkout"}}
    group_shipping(["shipping"])
    group_billing -->|"orders.paid"| topic_orders
    module_orders -->|"orders.paid<br>orders.placed"| topic_orders
    module_payments -->|"orders.paid"| topic_orders
    topic__c5_81_c3_b3d_c5_ba_2f_22_3cb_3e_231 -->|"Łódź/#quot;#lt;b#gt;#35;1"| group_odd_20one
    topic_orders -->|"orders.placed"| group_billing
    topic_orders -->|"orders.placed"| group_saga_2echeckout
    topic_orders -->|"orders.paid v2<br>orders.placed"| group_shipping
`
	if got := describe.Mermaid(program(t)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := describe.Mermaid(describe.Program{}); got != "flowchart LR\n" {
		t.Errorf("nothing is drawn as %q", got)
	}
}

func TestAsyncAPIIsValid(t *testing.T) {
	t.Parallel()
	valid := asyncAPI(t)
	for name, p := range map[string]describe.Program{"full": program(t), "empty": {}} {
		if err := valid.Validate(document(t, p)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wrong := document(t, program(t)).(map[string]any)
	wrong["operations"].(map[string]any)["x"] = map[string]any{"action": "recieve"}
	if valid.Validate(wrong) == nil {
		t.Error("the schema takes an operation without a channel")
	}
}

func TestAsyncAPISaysWhatThereIs(t *testing.T) {
	t.Parallel()
	doc := document(t, program(t))
	for path, want := range map[string]string{
		"channels orders address":                               `"orders"`,
		"channels orders messages orders_2eplaced.v1":           `{"$ref":"#/components/messages/orders_2eplaced.v1"}`,
		"operations billing.receive.orders action":              `"receive"`,
		"operations billing.receive.orders x-group":             `"billing"`,
		"operations orders.send.orders x-module":                `"orders"`,
		"operations shipping.receive.orders messages":           `[{"$ref":"#/channels/orders/messages/orders_2epaid.v2"},{"$ref":"#/channels/orders/messages/orders_2eplaced.v1"}]`,
		"components messages orders_2epaid.v2 x-version":        `2`,
		"components messages orders_2epaid.v2 payload required": `["order_id"]`,
		"components messages orders_2epaid.v2 contentType":      `"application/json"`,
	} {
		at := doc
		for key := range strings.SplitSeq(path, " ") {
			m, _ := at.(map[string]any)
			at = m[key]
		}
		got, err := json.Marshal(at)
		if err != nil || string(got) != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

// TestPayloadsFitTheirSchema encodes events, full ones and zero ones, and checks them against the schema of their type.
func TestPayloadsFitTheirSchema(t *testing.T) {
	t.Parallel()
	doc := document(t, program(t))
	c := jsonschema.NewCompiler()
	if err := c.AddResource("doc.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("doc.json#/components/messages/orders_2eplaced.v1/payload")
	if err != nil {
		t.Fatal(err)
	}
	n := 3
	for _, e := range []placed{
		{},
		{base: base{"o-1", time.Now()}, line: &line{SKU: "a", Of: &line{}}, Lines: []line{{}, {Notes: []string{"x"}}}, By: map[string]float64{"x": math.Pi},
			Raw: json.RawMessage(`[1]`), Bytes: []byte{1}, Cents: 5, Ptr: &n, Any: "x", secret: "s"},
	} {
		encoded, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(unmarshal(t, encoded)); err != nil {
			t.Errorf("%s: %v", encoded, err)
		}
	}
	for _, wrong := range []string{`{}`, `[]`, `{"id": 1}`} {
		if s.Validate(unmarshal(t, []byte(wrong))) == nil {
			t.Errorf("the schema takes %s", wrong)
		}
	}
}

func document(t *testing.T, p describe.Program) any {
	t.Helper()
	encoded, err := describe.AsyncAPI(p)
	if err != nil {
		t.Fatal(err)
	}
	return unmarshal(t, encoded)
}

func unmarshal(t *testing.T, encoded []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestAsyncAPIOfTheShopIsValid does so for an application.
func TestAsyncAPIOfTheShopIsValid(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "run", "../examples/shop", "--describe", "asyncapi").Output()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if err := asyncAPI(t).Validate(document); err != nil {
		t.Error(err)
	}
	for _, want := range []string{`"orders.placed"`, `"customer"`, `"saga_2echeckout`, `"address": "checkout"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the document does not say %s", want)
		}
	}
}

// asyncAPI is the schema of AsyncAPI documents, from npm's package @asyncapi/specs (Apache-2.0, as it is there).
func asyncAPI(t *testing.T) *jsonschema.Schema {
	t.Helper()
	file, err := os.Open("testdata/asyncapi-3.0.0.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("asyncapi.json", parsed); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("asyncapi.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}
