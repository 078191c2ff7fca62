package describe

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/postbus/postbus/bus"
)

// Mermaid returns a flowchart: modules that publish, topics, and groups; the arrows are labelled with events. A module
// that publishes under the name of a group is one with it. Groups of sagas are hexagons.
func Mermaid(p Program) string {
	groups := map[string]bool{}
	for _, g := range p.Groups {
		groups[g.Name] = true
	}
	publisher := func(module string) string {
		if groups[module] {
			return node("group", module)
		}
		return node("module", module)
	}
	arrows := map[[2]string]map[string]bool{}
	arrow := func(from, to, label string) {
		at := [2]string{from, to}
		if arrows[at] == nil {
			arrows[at] = map[string]bool{}
		}
		arrows[at][label] = true
	}
	topics := map[string]bool{}
	for _, module := range p.publishers() {
		for _, e := range p.Publishes[module] {
			name := bus.Unwrap(e).EventName()
			topics[p.topic(name)] = true
			arrow(publisher(module), node("topic", p.topic(name)), name)
		}
	}
	for _, g := range p.Groups {
		for _, e := range g.Events {
			topics[e.Topic] = true
			label := e.Name
			if e.Version != 1 {
				label = fmt.Sprintf("%s v%d", e.Name, e.Version)
			}
			arrow(node("topic", e.Topic), node("group", g.Name), label)
		}
	}
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for _, module := range p.publishers() {
		if !groups[module] {
			fmt.Fprintf(&b, "    %s[\"%s\"]\n", node("module", module), text(module))
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		fmt.Fprintf(&b, "    %s[(\"%s\")]\n", node("topic", topic), text(topic))
	}
	for _, g := range p.Groups {
		shape := `    %s(["%s"])` + "\n"
		if strings.HasPrefix(g.Name, sagas) {
			shape = `    %s{{"%s"}}` + "\n"
		}
		fmt.Fprintf(&b, shape, node("group", g.Name), text(g.Name))
	}
	ends := slices.SortedFunc(maps.Keys(arrows), func(x, y [2]string) int { return slices.Compare(x[:], y[:]) })
	for _, at := range ends {
		labels := slices.Sorted(maps.Keys(arrows[at]))
		for i := range labels {
			labels[i] = text(labels[i])
		}
		fmt.Fprintf(&b, "    %s -->|\"%s\"| %s\n", at[0], strings.Join(labels, "<br>"), at[1])
	}
	return b.String()
}

// sagas begins the names of the groups of sagas, as package saga has them.
const sagas = "saga."

// node is an id of letters, digits and "_"; different names have different ones.
func node(kind, name string) string { return kind + "_" + escape(name, '_') }

// escape keeps ASCII letters and digits, and writes all else as sep and two hexadecimal digits for each byte.
func escape(name string, sep byte) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%c%02x", sep, c)
		}
	}
	return b.String()
}

// text is s within a quoted label, as entities where it could end the label or be markup.
func text(s string) string {
	return strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "&", "#amp;", "`", "#96;", "\\", "#92;").Replace(s)
}
