package transporttest

import (
	"context"
	"strings"
	"time"

	"github.com/postbus/postbus/transport"
)

// spoilMessage breaks what is kept (c) of a message (m).
func (r *reference) spoilMessage(m, c *transport.Message) {
	switch r.fault {
	case "changes messages":
		if m.Metadata != nil {
			m.Metadata["stored"] = "yes"
		}
	case "loses causation":
		c.CausationID = ""
	case "times in seconds":
		c.Time = c.Time.Truncate(time.Second)
	case "times in nanoseconds":
		if !c.Time.IsZero() {
			c.Time = time.Unix(0, c.Time.UnixNano())
		}
	case "local times":
		c.Time = time.Date(c.Time.Year(), c.Time.Month(), c.Time.Day(), c.Time.Hour(), c.Time.Minute(), c.Time.Second(), c.Time.Nanosecond(), time.UTC)
	case "empty metadata":
		if c.Metadata == nil {
			c.Metadata = map[string]string{}
		}
	case "versions of a byte":
		c.Version &= 255
	case "IDs of 36 bytes":
		c.ID = c.ID[:min(len(c.ID), 36)]
	case "trims texts":
		c.Name = strings.TrimSpace(c.Name)
	case "metadata is headers":
		if v, ok := c.Metadata["key"]; ok {
			c.Key = v
		}
	case "payload is text":
		c.Payload = []byte(strings.ToValidUTF8(string(c.Payload), "?"))
	case "payload is cut":
		c.Payload = c.Payload[:min(len(c.Payload), 65535)]
	case "loses values":
		c.Value = nil
	case "past is lost":
		if !c.NotBefore.IsZero() && c.NotBefore.Before(time.Now()) {
			c.NotBefore = c.NotBefore.AddDate(1000, 0, 0)
		}
	}
}

// spoilState breaks the state with which a message begins in a group.
func (r *reference) spoilState(st *state) {
	if r.has("aimed goes last") && st.msg.TargetGroup != "" {
		st.late = 1
	}
}

func (r *reference) spoilDelivery(st *state, d *transport.Delivery) {
	switch {
	case r.has("forgets Attempts"):
		d.Attempt -= st.msg.Attempts
	case r.has("lazy is always new") && st.lazy != nil:
		d.Attempt = 1
	}
}

func (r *reference) spoilGivenBack(st *state) {
	switch r.fault {
	case "close counts":
		st.attempts++
	case "closed goes last":
		r.late++
		st.late = r.late
	}
}

// spoilRestart breaks what a new process finds.
func (d *disk) spoilRestart(g *group) {
	last := uint64(0)
	for _, st := range g.states {
		if st.acked {
			last = max(last, st.tag)
		}
	}
	for _, st := range g.states {
		switch {
		case d.has("stores ranges") && st.holder == nil && st.tag < last:
			st.acked = true
		case d.has("forgets attempts at restart") && st.holder == nil:
			st.attempts = st.msg.Attempts
		case d.has("restart goes last") && st.attempts > 0:
			st.late = 1
		}
	}
}

func (r *reference) spoilPrefetch(n int) int {
	switch {
	case r.has("ignores prefetch"):
		return 1 << 20
	case r.has("default prefetch is 1000") && n == transport.DefaultPrefetch:
		return 1000
	}
	return n
}

func (r *reference) spoilStart(s transport.Start) transport.Start {
	switch {
	case r.has("always starts now"):
		return transport.StartNow()
	case r.has("always starts at the beginning"), r.has("start at is the beginning") && !s.Time().IsZero():
		return transport.StartBeginning()
	}
	return s
}

// spoilKey breaks the key of a group.
func (r *reference) spoilKey(key string, cfg transport.SubscribeConfig) string {
	switch {
	case r.has("groups share"):
		return key[:strings.Index(key, "\n")]
	case r.has("subscriptions share nothing") && cfg.Topic != "":
		r.late++
		return key + strings.Repeat(" ", r.late)
	case r.has("processes share nothing"):
		return key + string(rune('a'+r.process))
	case r.has("names are joined"):
		return strings.ReplaceAll(key, "\n", ".")
	}
	return key
}

// ignoresDelay reports whether a message that is not due is delivered nevertheless.
func (r *reference) ignoresDelay(g *group, m *transport.Message) bool {
	return r.has("ignores delay") || r.has("aimed is not delayed") && m.TargetGroup != "" ||
		r.has("new subscriptions ignore delay") && g.joined > 1
}

// spoilJoin breaks what a subscription finds.
func (r *reference) spoilJoin(g *group) {
	if !r.has("due needs a subscription") {
		return
	}
	_, _ = r.eligible(g)
	for _, st := range g.states {
		if due := st.msg.NotBefore; !due.IsZero() && due.Before(time.Now()) {
			st.acked = true
		}
	}
}

// spoilFull makes a Publish wait, as one to a full queue does.
func (r *reference) spoilFull(ctx context.Context, topic string) error {
	r.mu.Lock()
	full := len(r.topics[topic]) > 1000
	r.mu.Unlock()
	done := ctx.Done()
	switch {
	case !full, !r.has("publishes and fails when full") && !r.has("hangs when full"):
		return nil
	case r.has("hangs when full"):
		done = nil
	}
	select {
	case <-done:
		return ctx.Err()
	case <-r.ended:
		return transport.ErrClosed
	}
}
