package outbox

// Unwrap is unwrap.
var Unwrap = unwrap

// SlotName is slotName.
var SlotName = slotName

// Crash ends f as the death of its process would.
func (f *Forwarder) Crash() { f.log.Crash() }

// OnPoint has f called at each point at which a crash could lose or double something.
func (b *Box) OnPoint(f func(point string)) { b.crash = f }

// AskAtOnce has b ask who forwards as of its second event.
func (b *Box) AskAtOnce() { b.patience = 0 }
