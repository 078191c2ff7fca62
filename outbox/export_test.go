package outbox

// Unwrap is unwrap.
var Unwrap = unwrap

// Crash ends f as the death of its process would.
func (f *Forwarder) Crash() { f.log.Crash() }
