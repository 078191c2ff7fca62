package outbox_test

// child does the work of a child process and exits, if this process is one.
func child() {}
