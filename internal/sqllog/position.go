package sqllog

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
)

// Pos is a place in a log. On databases without transaction ids Tx is 0.
type Pos struct {
	Tx  uint64
	Off int64
}

// Compare orders positions as the log does.
func (p Pos) Compare(q Pos) int {
	if c := cmp.Compare(p.Tx, q.Tx); c != 0 {
		return c
	}
	return cmp.Compare(p.Off, q.Off)
}

func (p Pos) before(q Pos) bool { return p.Compare(q) < 0 }

// String returns "tx/offset", or "offset" where there is no transaction id.
func (p Pos) String() string {
	if p.Tx == 0 {
		return fmt.Sprint(p.Off)
	}
	return fmt.Sprintf("%d/%d", p.Tx, p.Off)
}

// state is what is known of a group beyond its prefix. Messages at or below run are settled unless they are in pending.
// All from run up to frontier are delivered and not settled. Beyond the frontier nothing was delivered, and what is in
// skip never will be.
type state struct {
	prefix, run, frontier Pos
	pending               []pending
	skip                  []Pos
}

// pending is an unsettled message at or below state.run.
type pending struct {
	pos      Pos
	attempts int  // deliveries that ended with a requeue
	inFlight bool // one more delivery is not ended
}

const stateVersion = 1

func (s *state) encode() []byte {
	b := make([]byte, 0, 64+8*(len(s.pending)+len(s.skip)))
	b = append(b, stateVersion)
	for _, p := range []Pos{s.prefix, s.run, s.frontier} {
		b = appendPos(b, p)
	}
	b = binary.AppendUvarint(b, uint64(len(s.pending)))
	last := s.prefix
	for _, p := range s.pending {
		b = appendDelta(b, last, p.pos)
		n := uint64(p.attempts) << 1
		if p.inFlight {
			n |= 1
		}
		b = binary.AppendUvarint(b, n)
		last = p.pos
	}
	b = binary.AppendUvarint(b, uint64(len(s.skip)))
	last = s.prefix
	for _, p := range s.skip {
		b = appendDelta(b, last, p)
		last = p
	}
	return b
}

func appendPos(b []byte, p Pos) []byte {
	return binary.AppendVarint(binary.AppendUvarint(b, p.Tx), p.Off)
}

func appendDelta(b []byte, last, p Pos) []byte {
	b = binary.AppendUvarint(b, p.Tx-last.Tx)
	if p.Tx == last.Tx {
		return binary.AppendVarint(b, p.Off-last.Off)
	}
	return binary.AppendVarint(b, p.Off)
}

var errState = errors.New("the state of the group is damaged")

// decodeState reads what encode wrote; no bytes are the state of a new group, or of one that Watermill made.
func decodeState(b []byte) (s state, err error) {
	if len(b) == 0 {
		return state{}, nil
	}
	if b[0] != stateVersion {
		return state{}, fmt.Errorf("the state of the group is of version %d, this program knows %d", b[0], stateVersion)
	}
	r := reader{b: b[1:]}
	for _, p := range []*Pos{&s.prefix, &s.run, &s.frontier} {
		*p = Pos{r.uvarint(), r.varint()}
	}
	last := s.prefix
	for n := r.count(); n > 0; n-- {
		last = r.delta(last)
		flags := r.uvarint()
		s.pending = append(s.pending, pending{pos: last, attempts: int(flags >> 1), inFlight: flags&1 != 0})
	}
	last = s.prefix
	for n := r.count(); n > 0; n-- {
		last = r.delta(last)
		s.skip = append(s.skip, last)
	}
	if r.bad || len(r.b) > 0 {
		return state{}, errState
	}
	return s, nil
}

type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.advance(n)
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	r.advance(n)
	return v
}

func (r *reader) advance(n int) {
	if n <= 0 {
		r.bad, r.b = true, nil
		return
	}
	r.b = r.b[n:]
}

// count reads the length of a list; each element has at least two bytes.
func (r *reader) count() uint64 {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad, n = true, 0
	}
	return n
}

func (r *reader) delta(last Pos) Pos {
	tx, off := r.uvarint(), r.varint()
	if tx == 0 {
		return Pos{last.Tx, last.Off + off}
	}
	return Pos{last.Tx + tx, off}
}

// adopt reconciles s with the offset in the table: somebody else, such as a plain Watermill consumer or an operator, has
// moved it if it is not the prefix that was written with the state.
func (s *state) adopt(offset Pos) {
	switch c := offset.Compare(s.prefix); {
	case c < 0: // rewound: all that follows is to come again
		*s = state{prefix: offset, run: offset, frontier: offset}
	case c > 0:
		kept := s.pending[:0]
		for _, p := range s.pending {
			if offset.before(p.pos) {
				kept = append(kept, p)
			}
		}
		skip := s.skip[:0]
		for _, p := range s.skip {
			if offset.before(p) {
				skip = append(skip, p)
			}
		}
		s.prefix, s.pending, s.skip = offset, kept, skip
		if s.run.before(offset) {
			s.run = offset
		}
		if s.frontier.before(offset) {
			s.frontier = offset
		}
	}
}

// MoveState rewrites a state of postbus_groups after rows of its log got other positions. The order of positions must be
// kept.
func MoveState(raw []byte, moved func(Pos) (Pos, error)) ([]byte, error) {
	if len(raw) == 0 {
		return raw, nil
	}
	s, err := decodeState(raw)
	if err != nil {
		return nil, err
	}
	all := []*Pos{&s.prefix, &s.run, &s.frontier}
	for i := range s.pending {
		all = append(all, &s.pending[i].pos)
	}
	for i := range s.skip {
		all = append(all, &s.skip[i])
	}
	for _, p := range all {
		if *p, err = moved(*p); err != nil {
			return nil, err
		}
	}
	return s.encode(), nil
}
