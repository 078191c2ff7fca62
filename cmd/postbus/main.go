// Postbus is the operator's tool.
//
//	postbus config check FILE   the effective configuration without secrets, or every mistake
//	postbus config schema       the JSON schema of the file
//
// It exits with 1 if what it was asked to check is wrong, or failed, and with 2 if it was not asked rightly.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"

	_ "github.com/postbus/postbus/transport/memory"
	_ "github.com/postbus/postbus/transport/mysql"
	_ "github.com/postbus/postbus/transport/postgres"
	_ "github.com/postbus/postbus/transport/rabbitmq"
	_ "github.com/postbus/postbus/transport/sqlite"
)

// commands by name. A command writes what was asked for to stdout.
var commands = map[string]func(ctx context.Context, args, environ []string, stdout io.Writer) error{
	"config": configCommand,
}

// errUsage begins errors of who calls.
var errUsage = errors.New("usage")

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout)
	cancel()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

func run(ctx context.Context, args, environ []string, stdout io.Writer) error {
	if len(args) > 0 {
		if command := commands[args[0]]; command != nil {
			return command(ctx, args[1:], environ, stdout)
		}
	}
	return fmt.Errorf("%w: postbus COMMAND …, of %s", errUsage, strings.Join(slices.Sorted(maps.Keys(commands)), ", "))
}
