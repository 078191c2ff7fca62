package saga

import (
	"encoding/json"
	"slices"
	"time"
)

// Status is how an instance is.
type Status string

// The statuses. The first three are of instances that have not ended.
const (
	Running      Status = "running"
	Compensating Status = "compensating" // undoing what was done
	Stuck        Status = "stuck"        // waits for a person
	Completed    Status = "completed"
	Compensated  Status = "compensated" // aborted, and undone
	Cancelled    Status = "cancelled"   // ended by a person, as it was
)

// Ended reports whether nothing more will happen.
func (s Status) Ended() bool { return s == Completed || s == Compensated || s == Cancelled }

// instance is a row, decoded.
type instance struct {
	saga, key, id string
	def           *definition
	version       int
	status        Status
	rev           int64 // counts transitions
	claims        int   // pickups by a poller since the last of them
	state         any
	progress      progress
	err           string
	parent        parent
	correlation   string
	trace         map[string]string
	started       int64 // ms since 1970, as all times here
	ended         int64
	due           int64 // as read
}

// parent is the instance whose step started this one; zero if none has.
type parent struct{ saga, key, step string }

// progress is where an instance stands, as kept in its row.
type progress struct {
	At       string  `json:"at,omitempty"`       // the step in work
	Leaves   []*leaf `json:"leaves,omitempty"`   // in the order in which they were reached
	Early    []early `json:"early,omitempty"`    // replies for steps that were not reached
	Pivoted  bool    `json:"pivoted,omitempty"`  // past the pivot
	Back     bool    `json:"back,omitempty"`     // compensating, also while stuck
	Why      string  `json:"why,omitempty"`      // of the compensation
	Deadline int64   `json:"deadline,omitempty"` // of the saga
	StuckAt  string  `json:"stuck_at,omitempty"` // the step because of which
	Notify   bool    `json:"notify,omitempty"`   // ended, and the parent does not know
}

// leaf is a step without parallel steps, as far as it has come.
type leaf struct {
	Name     string `json:"name"`
	Phase    phase  `json:"phase"`
	Attempt  int    `json:"attempt,omitempty"` // that have failed in this phase
	Due      int64  `json:"due,omitempty"`     // of the next attempt
	Deadline int64  `json:"deadline,omitempty"`
	Tried    bool   `json:"tried,omitempty"` // an attempt may have had effects that no rollback undoes
	Since    int64  `json:"since,omitempty"` // when it was reached
	Got      []got  `json:"got,omitempty"`   // replies of AllReplies
	Child    string `json:"child,omitempty"`
}

// got is a schema, as kept.
type got struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
}

// phase is what a leaf is at.
type phase string

const (
	doing   phase = "do"
	waiting phase = "wait"
	done    phase = "done"
	failed  phase = "failed"
	pending phase = "pending" // to be undone, after others
	undoing phase = "undo"
	// childEnds: compensating, the child must end first.
	childEnds phase = "child"
	undone    phase = "undone"
)

// early is a reply that came before its step.
type early struct {
	Name    string          `json:"name"`
	Version int             `json:"version"`
	Data    json.RawMessage `json:"data"`
	Message string          `json:"message"`
}

// find returns a leaf by its name, or nil.
func (p *progress) find(name string) *leaf {
	for _, l := range p.Leaves {
		if l.Name == name {
			return l
		}
	}
	return nil
}

// vanished returns the name of a step that def lacks, or "".
func (in *instance) vanished() string {
	if at := in.progress.At; at != "" && !slices.ContainsFunc(in.def.steps, func(s *step) bool { return s.name == at }) {
		return at
	}
	for _, l := range in.progress.Leaves {
		if in.def.leaves[l.Name] == nil {
			return l.Name
		}
	}
	return ""
}

// nextDue returns when the instance must be looked at, or 0 for never.
func (in *instance) nextDue() int64 {
	var due int64
	sooner := func(t int64) {
		if t > 0 && (due == 0 || t < due) {
			due = t
		}
	}
	p := &in.progress
	switch {
	case p.Notify:
		sooner(1)
	case in.status != Running && in.status != Compensating:
		return 0
	}
	if in.status == Running {
		sooner(p.Deadline)
	}
	for _, l := range p.Leaves {
		switch l.Phase {
		case doing:
			sooner(l.Due)
			sooner(l.Deadline)
		case waiting:
			sooner(l.Deadline)
		case undoing, childEnds:
			sooner(l.Due)
		}
	}
	return due
}

// runnable returns a leaf whose function may run now, the local ones first, or nil.
func (in *instance) runnable(now int64, local bool) *leaf {
	if in.status != Running && in.status != Compensating {
		return nil
	}
	for _, l := range in.progress.Leaves {
		if (l.Phase == doing || l.Phase == undoing) && l.Due <= now && in.def.leaves[l.Name].isLocal() == local {
			return l
		}
	}
	return nil
}

// isLocal: starting a child touches the database alone.
func (s *step) isLocal() bool { return s.local || s.child != nil && s.undo == nil }

func milli(d time.Duration) int64 { return d.Milliseconds() }
