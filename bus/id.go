package bus

import (
	"math/rand/v2"
	"strings"
	"time"
)

// idChunk is how many ids share one allocation.
const idChunk = 32

// idSource makes UUIDv7 (RFC 9562, section 5.7). Within a millisecond its ids are monotonic by method 2 of section
// 6.2: 74 random bits at the first, and one more at each that follows. It is used by one goroutine at a time.
type idSource struct {
	milli  int64
	hi, lo uint64
	text   [36]byte // of the last id
	chunk  strings.Builder
}

// next returns the id of a message that is published at t. A clock that was set back does not set the ids back.
func (s *idSource) next(t time.Time) string {
	if milli := t.UnixMilli(); milli > s.milli {
		s.begin(milli)
	} else if s.lo++; s.lo&15 != 0 {
		s.text[35] = hex[s.lo&15]
	} else {
		s.format()
	}
	if s.chunk.Cap()-s.chunk.Len() < len(s.text) {
		s.chunk = strings.Builder{}
		s.chunk.Grow(idChunk * len(s.text))
	}
	start := s.chunk.Len()
	s.chunk.Write(s.text[:])
	return s.chunk.String()[start:]
}

// begin makes the first id of a millisecond.
func (s *idSource) begin(milli int64) {
	s.milli = milli
	// The top bit of the counter stays free, so that it cannot overflow within the millisecond.
	s.hi = uint64(milli)<<16 | 0x7000 | rand.Uint64()&0x0fff
	s.lo = 1<<63 | rand.Uint64()>>3
	s.format()
}

// randomID returns an id of the time t that is made after it, and so not in the order of others.
func randomID(t time.Time) string {
	var s idSource
	s.begin(t.UnixMilli())
	return string(s.text[:])
}

func (s *idSource) format() {
	hexDigits(s.text[:8], s.hi)
	hexDigits(s.text[9:13], s.hi<<32)
	hexDigits(s.text[14:18], s.hi<<48)
	hexDigits(s.text[19:23], s.lo)
	hexDigits(s.text[24:], s.lo<<16)
	for _, dash := range [...]int{8, 13, 18, 23} {
		s.text[dash] = '-'
	}
}

const hex = "0123456789abcdef"

// hexDigits fills to with the topmost digits of v.
func hexDigits(to []byte, v uint64) {
	for i := range to {
		to[i] = hex[v>>60]
		v <<= 4
	}
}
