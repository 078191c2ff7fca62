package bustest

import (
	"sync"

	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/transport"
)

// journal is a list of messages, each ID once.
type journal struct {
	mu      sync.Mutex
	codecs  []codec.Codec
	entries []*entry
	known   map[string]int // depth of each message: how many led to it, each the cause of the next
	deepest int
}

// entry is a message that was published, unless it was withdrawn.
type entry struct {
	Message
	withdrawn bool
}

func (j *journal) useCodecs(codecs []codec.Codec) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.codecs = codecs; len(codecs) == 0 {
		j.codecs = []codec.Codec{codec.JSON}
	}
}

// add returns the entry of m, or nil if it has one already.
func (j *journal) add(topic string, m *transport.Message) *entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, known := j.known[m.ID]; known {
		return nil
	}
	if j.known == nil {
		j.known = map[string]int{}
	}
	j.known[m.ID] = j.known[m.CausationID] + 1
	j.deepest = max(j.deepest, j.known[m.ID])
	e := &entry{Message: Message{Message: *m, Topic: topic, codecs: j.codecs}}
	j.entries = append(j.entries, e)
	return e
}

func (j *journal) withdraw(e *entry) {
	if e == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e.withdrawn = true
	delete(j.known, e.ID)
}

func (j *journal) list() []Message {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []Message
	for _, e := range j.entries {
		if !e.withdrawn {
			list = append(list, e.Message)
		}
	}
	return list
}

// endless reports whether events have caused each other for too long.
func (j *journal) endless() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.deepest > maxChain
}
