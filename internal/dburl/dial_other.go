//go:build !linux

package dburl

// setUserTimeout does nothing where the system has no such option, or another one.
func setUserTimeout(uintptr, int) error { return nil }
