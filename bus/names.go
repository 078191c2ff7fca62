package bus

import (
	"fmt"
	"strings"

	"github.com/postbus/postbus/transport"
)

// TopicOf returns the topic on which an event travels unless Config.Topic says otherwise: its name up to the last dot,
// or the whole name if it has none.
func TopicOf(eventName string) string {
	if i := strings.LastIndexByte(eventName, '.'); i >= 0 {
		return eventName[:i]
	}
	return eventName
}

// checkEventName reports why name cannot name an event: beyond the rules for all names, the parts between its dots must
// not be empty, nor begin or end with a space, so that what is before the last dot can name a topic.
func checkEventName(name string) error {
	if err := transport.CheckName("event name", name); err != nil {
		return asInvalid(err)
	}
	for part := range strings.SplitSeq(name, ".") {
		if part == "" || part != strings.TrimSpace(part) {
			return fmt.Errorf("%w: event name %q must not have a part between dots that is empty or begins or ends with a space",
				ErrInvalid, name)
		}
	}
	return nil
}
