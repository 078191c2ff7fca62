package outbox

// at is where a test ends the process: the points at which a crash could lose or double something.
func (b *Box) at(point string) {
	if b.crash != nil {
		b.crash(point)
	}
}
