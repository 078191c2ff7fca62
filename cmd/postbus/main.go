// Postbus is the operator's tool: it looks at groups, sends and watches messages, and works off the quarantine.
//
//	postbus help              the commands
//	postbus help COMMAND      one of them, with examples; also postbus COMMAND --help
//
// It exits with 0 if all went well, with 1 if something failed, or what it was to check is wrong, and with 2 if it was
// not called rightly.
//
// What it prints for people has control characters escaped, for texts of messages and errors can hold what does harm on a
// terminal. With --json it prints one JSON object a line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	_ "github.com/postbus/postbus/transport/memory"
	_ "github.com/postbus/postbus/transport/mysql"
	_ "github.com/postbus/postbus/transport/postgres"
	_ "github.com/postbus/postbus/transport/sqlite"
)

// commands are all there are, in the order of the help.
var commands = []func() *command{
	groupsCommand, sendCommand, tailCommand, describeCommand,
	quarantineListCommand, quarantineKindsCommand, quarantineShowCommand, quarantineEditCommand, quarantineReplayCommand,
	quarantineDiscardCommand,
	sagaListCommand, sagaShowCommand, sagaRetryCommand, sagaSkipCommand, sagaCompensateCommand, sagaCancelCommand,
	configCheckCommand, configSchemaCommand,
}

// Exit codes.
const (
	exitOK = iota
	exitFailure
	exitUsage
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], &call{environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr})
	cancel()
	os.Exit(code)
}

// execute runs a command line and returns the exit code.
func execute(ctx context.Context, args []string, c *call) int {
	err := run(ctx, args, c)
	var wrong *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &wrong):
		fmt.Fprintf(c.stderr, "postbus: %s\n", escapeLines(err.Error()))
		return exitUsage
	default:
		fmt.Fprintf(c.stderr, "postbus: %s\n", escapeLines(err.Error()))
		return exitFailure
	}
}

// usageError is a mistake of who calls.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// call is one run of the program.
type call struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer

	args []string // those that are no flags
	json bool
	connection
}
