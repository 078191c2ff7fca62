package bus

// Failed is closed when a group can go on no longer, because its subscription was closed from outside. Others go on until
// Stop. Trouble that may pass, such as a server that is away, is no failure.
func (b *Bus) Failed() <-chan struct{} { return b.failed }

// Err returns why Failed is closed, or nil if it is not.
func (b *Bus) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failure
}

// fail records the first failure.
func (b *Bus) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failure == nil && b.state.Load() < stopping {
		b.failure = err
		close(b.failed)
	}
}
