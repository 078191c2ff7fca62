package bus

import (
	"fmt"
	"strings"

	"github.com/postbus/postbus/codec"
)

// encode encodes an event with the first codec that can.
func (p *publisher) encode(e any) (payload []byte, contentType string, err error) {
	for _, c := range p.codecs {
		if c.Encodes(e) {
			payload, err = c.Marshal(e)
			if err != nil {
				return nil, "", fmt.Errorf("encode %T as %s: %w", e, c.ContentType(), err)
			}
			return payload, c.ContentType(), nil
		}
	}
	return nil, "", fmt.Errorf("%w: no codec can encode %T", ErrInvalid, e)
}

// codecFor returns the codec for a content type; parameters such as "; charset=utf-8" do not count. A message that names
// none is taken for what the bus would make of the event.
func (p *publisher) codecFor(contentType string, e any) (codec.Codec, error) {
	if contentType == "" {
		for _, c := range p.codecs {
			if c.Encodes(e) {
				return c, nil
			}
		}
		return nil, fmt.Errorf("no content type, and no codec for %T", e)
	}
	for _, c := range p.codecs {
		if c.ContentType() == contentType {
			return c, nil
		}
	}
	base, _, _ := strings.Cut(contentType, ";")
	base = strings.TrimSpace(base)
	var known []string
	for _, c := range p.codecs {
		if strings.EqualFold(c.ContentType(), base) {
			return c, nil
		}
		known = append(known, c.ContentType())
	}
	return nil, fmt.Errorf("no codec for content type %q; known: %s", contentType, strings.Join(known, ", "))
}
