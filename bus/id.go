package bus

import (
	"encoding/binary"
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
	chunk  strings.Builder
}

// next returns the id of a message that is published at t. A clock that was set back does not set the ids back.
func (s *idSource) next(t time.Time) string {
	if milli := t.UnixMilli(); milli > s.milli {
		s.milli = milli
		// The top bit of the counter stays free, so that it cannot overflow within the millisecond.
		s.hi = uint64(milli)<<16 | 0x7000 | rand.Uint64()&0x0fff
		s.lo = rand.Uint64() >> 3
	} else {
		s.lo++
	}
	if s.chunk.Cap()-s.chunk.Len() < 36 {
		s.chunk = strings.Builder{}
		s.chunk.Grow(idChunk * 36)
	}
	var bytes [16]byte
	binary.BigEndian.PutUint64(bytes[:8], s.hi)
	binary.BigEndian.PutUint64(bytes[8:], s.lo|1<<63)
	var text [36]byte
	const digits = "0123456789abcdef"
	for from, to := 0, 0; from < 16; from, to = from+1, to+2 {
		if from == 4 || from == 6 || from == 8 || from == 10 {
			text[to] = '-'
			to++
		}
		text[to], text[to+1] = digits[bytes[from]>>4], digits[bytes[from]&15]
	}
	start := s.chunk.Len()
	s.chunk.Write(text[:])
	return s.chunk.String()[start:]
}
