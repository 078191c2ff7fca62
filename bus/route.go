package bus

import (
	"fmt"
	"maps"
	"strings"

	"github.com/postbus/postbus/transport"
)

// route is where events of one name travel.
type route struct {
	by          *publisher
	name, topic string
}

// route returns the route of a name; it checks each name once.
func (p *publisher) route(name string) (*route, error) {
	if r, ok := (*p.routes.Load())[name]; ok {
		return r, nil
	}
	if err := checkEventName(name); err != nil {
		return nil, err
	}
	topic := p.topic(name)
	if err := transport.CheckName("topic", topic); err != nil {
		return nil, fmt.Errorf("event %q: %w", name, asInvalid(err))
	}
	// The map is replaced as a whole, for it is read far more often. The name is copied, as it might be a part of
	// something large.
	r := &route{p, strings.Clone(name), topic}
	p.routing.Lock()
	defer p.routing.Unlock()
	if known := *p.routes.Load(); len(known) < maxRoutes {
		routes := maps.Clone(known)
		routes[r.name] = r
		p.routes.Store(&routes)
	}
	return r, nil
}

// maxRoutes bounds the memory that names made up at run time could take.
const maxRoutes = 10_000
