package saga

import (
	"context"
	"fmt"
	"strings"
)

// Diagram draws a saga as a Mermaid flowchart: its steps in order, what undoes them on the left, where it aborts, and the
// pivot.
func Diagram(s Saga) string { return s.define().diagram(nil) }

// Diagram draws the saga of an instance, and where it stands.
func (o *Orchestrator) Diagram(ctx context.Context, saga, key string) (string, error) {
	r, err := o.rows.find(ctx, o.db.SQL(), saga, key, false)
	switch {
	case err != nil:
		return "", fmt.Errorf("saga %q: diagram of %q: %w", saga, key, err)
	case r == nil:
		return "", fmt.Errorf("%w: saga %q: key %q", ErrNotFound, saga, key)
	}
	def := o.definition(r.saga, r.version)
	if def == nil {
		return "", fmt.Errorf("%w: saga %q version %d", ErrVersion, r.saga, r.version)
	}
	in, err := r.instance(nil)
	if err != nil {
		return "", err
	}
	return def.diagram(in), nil
}

func (d *definition) diagram(in *instance) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("flowchart TD")
	starts := []string{"start"}
	for _, s := range d.starts {
		starts = append(starts, s.name)
	}
	line("  begin([%s])", quoted(strings.Join(starts, "<br>")))
	last := []string{"begin"}
	n, aborts := 0, false
	var classes []string
	for _, top := range d.steps {
		var ids []string
		if top.parallel {
			line("  subgraph p%d [%s]", top.index, quoted(top.name+condition(top)))
		}
		for _, s := range top.leaves {
			n++
			id := fmt.Sprintf("s%d", n)
			ids = append(ids, id)
			line("  %s[%s]", id, quoted(s.label(top)))
			classes = append(classes, class(in, s.name, id)...)
		}
		if top.parallel {
			line("  end")
		}
		for _, from := range last {
			for _, to := range ids {
				line("  %s --> %s", from, to)
			}
		}
		for i, s := range top.leaves {
			if s.undo != nil || s.child != nil && !d.pivotBefore(top.index) {
				line("  %s -.- %su[/%s/]", ids[i], ids[i], quoted("undo "+s.name))
			}
			for _, r := range s.replies {
				if r.abort {
					line("  %s -- %s --> compensate", ids[i], quoted(r.name))
					aborts = true
				}
			}
			if s.timeout > 0 && !d.pivotBefore(top.index) {
				line("  %s -- %s --> compensate", ids[i], quoted("after "+s.timeout.String()))
				aborts = true
			}
		}
		if last = ids; top.pivot {
			id := fmt.Sprintf("pivot%d", top.index)
			line("  %s{{%s}}", id, quoted("pivot"))
			for _, from := range ids {
				line("  %s --> %s", from, id)
			}
			last = []string{id}
		}
	}
	line("  completed([%s])", quoted("completed"))
	for _, from := range last {
		line("  %s --> completed", from)
	}
	if aborts {
		line("  compensate([%s])", quoted("undo what was done, last first"))
	}
	if in != nil {
		line("  at>%s] -.-> begin", quoted(strings.TrimSpace(in.key+"<br>"+string(in.status)+"<br>"+in.err)))
		line("  classDef done fill:#cfc")
		line("  classDef active fill:#ffc,stroke-width:3px")
		line("  classDef stuck fill:#fcc,stroke-width:3px")
		line("  classDef undone fill:#ddd")
		for _, c := range classes {
			line("  %s", c)
		}
	}
	return b.String()
}

// label says what a step does.
func (s *step) label(top *step) string {
	parts := []string{s.name}
	if s != top || s.when != nil {
		parts[0] += condition(s)
	}
	var waits []string
	for _, r := range s.replies {
		if !r.abort {
			waits = append(waits, r.name)
		}
	}
	join := " or "
	if s.all {
		join = " and "
	}
	if len(waits) > 0 {
		parts = append(parts, "await "+strings.Join(waits, join))
	}
	if s.child != nil {
		parts = append(parts, "saga "+s.child.def.name)
	}
	return strings.Join(parts, "<br>")
}

func condition(s *step) string {
	if s.when != nil {
		return " (if)"
	}
	return ""
}

// class says how far an instance has come with a step.
func class(in *instance, leaf, id string) []string {
	if in == nil {
		return nil
	}
	l := in.progress.find(leaf)
	switch {
	case l == nil:
		return nil
	case in.status == Stuck && in.progress.StuckAt == leaf:
		return []string{"class " + id + " stuck"}
	case l.Phase == done || l.Phase == pending:
		return []string{"class " + id + " done"}
	case l.Phase == undone || l.Phase == failed:
		return []string{"class " + id + " undone"}
	}
	return []string{"class " + id + " active"}
}

// quoted is text as Mermaid takes it.
func quoted(text string) string {
	text = strings.NewReplacer(`"`, "#quot;", "\n", " ", "\r", " ").Replace(text)
	return `"` + text + `"`
}
