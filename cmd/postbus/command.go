package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// command is one thing that the program does. A command is made anew for each run: its flags set variables of its own.
type command struct {
	name string // one word or two
	// args are what it takes besides flags, as help shows them: "ID…". least and most is their number; most is 0 for none
	// and negative for any.
	args        string
	least, most int
	short       string // a line for the list of commands
	long        string // what else there is to say
	examples    []string
	flags       func(f *flag.FlagSet) // its own; nil if it has none
	uses        uses
	run         func(ctx context.Context, c *call) error
}

// uses says which of the common flags a command has.
type uses uint8

const (
	usesTransport uses = 1 << iota
	usesStore
	usesJSON
)

// run finds the command that args name, and runs it.
func run(ctx context.Context, args []string, c *call) error {
	help := false
	if len(args) > 0 && slices.Contains([]string{"help", "--help", "-help", "-h"}, args[0]) {
		help, args = true, args[1:]
	}
	if len(args) == 0 {
		if !help {
			return usage("which command? They are listed by: postbus help")
		}
		return overview(c.stdout, "")
	}
	cmd, rest := find(args)
	if cmd == nil {
		if isFamily(args[0]) {
			switch {
			case help && len(args) == 1, len(args) == 2 && isHelp(args[1]):
				return overview(c.stdout, args[0]+" ")
			case len(args) == 1:
				return usage("postbus %s what? See: postbus help %s", args[0], args[0])
			}
			return usage("unknown command %q; they are listed by: postbus help %s", args[0]+" "+args[1], args[0])
		}
		return usage("unknown command %q; they are listed by: postbus help", args[0])
	}
	if help {
		return cmd.help(c.stdout, cmd.flagSet(c))
	}
	flags := cmd.flagSet(c)
	for { // flags may stand behind arguments
		err := flags.Parse(rest)
		if errors.Is(err, flag.ErrHelp) {
			return cmd.help(c.stdout, flags)
		}
		if err != nil {
			return usage("%s: %v; see: postbus help %s", cmd.name, err, cmd.name)
		}
		rest = flags.Args()
		if len(rest) == 0 {
			break
		}
		c.args, rest = append(c.args, rest[0]), rest[1:]
	}
	if n := len(c.args); n < cmd.least || cmd.most >= 0 && n > cmd.most {
		return usage("%s takes %s, and got %d; see: postbus help %s", cmd.name, cmp.Or(cmd.args, "no arguments"), n, cmd.name)
	}
	return cmd.run(ctx, c)
}

func isHelp(arg string) bool { return slices.Contains([]string{"--help", "-help", "-h"}, arg) }

// find returns the command that args begin with, and what follows.
func find(args []string) (*command, []string) {
	for _, of := range commands {
		cmd := of()
		words := strings.Fields(cmd.name)
		if len(args) >= len(words) && slices.Equal(args[:len(words)], words) {
			return cmd, args[len(words):]
		}
	}
	return nil, nil
}

// isFamily reports whether word begins the names of commands.
func isFamily(word string) bool {
	return slices.ContainsFunc(commands, func(of func() *command) bool { return strings.HasPrefix(of().name, word+" ") })
}

// flagSet has the command's flags and those common ones that it uses.
func (cmd *command) flagSet(c *call) *flag.FlagSet {
	f := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	if cmd.flags != nil {
		cmd.flags(f)
	}
	if cmd.uses&(usesTransport|usesStore) != 0 {
		f.StringVar(&c.config, "config", "", "read the `FILE` of a program's configuration for what no other flag says")
	}
	if cmd.uses&usesTransport != 0 {
		f.StringVar(&c.transport, "transport", "", "the `URL` of the transport; default: POSTBUS_TRANSPORT, or that of --config")
	}
	if cmd.uses&usesStore != 0 {
		f.StringVar(&c.store, "store", "", "the `URL` of the database; default: POSTBUS_STORE, or that of --config")
	}
	if cmd.uses&usesJSON != 0 {
		f.BoolVar(&c.json, "json", false, "print a JSON object a line")
	}
	return f
}

// overview lists the commands whose names begin with prefix.
func overview(w io.Writer, prefix string) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "usage: postbus %sCOMMAND [flags] [arguments]\n\n", prefix)
	for _, of := range commands {
		if cmd := of(); strings.HasPrefix(cmd.name, prefix) {
			fmt.Fprintf(&b, "  %-20s  %s\n", cmd.name, cmd.short)
		}
	}
	fmt.Fprintf(&b, `
"postbus help COMMAND" shows the flags of a command, with examples.

Where to look is a URL, as a program has it: of the transport, in --transport or POSTBUS_TRANSPORT, and of the
database, in --store or POSTBUS_STORE; --config FILE reads both from a program's configuration. A password is safer in
a variable or a file than in a flag, which others on the machine can see.

The exit code is 0 if all went well, 1 if something failed, 2 if the call was wrong.
`)
	_, err := w.Write(b.Bytes())
	return err
}

func (cmd *command) help(w io.Writer, f *flag.FlagSet) error {
	var b bytes.Buffer
	line := []string{"usage: postbus", cmd.name, "[flags]", cmd.args}
	fmt.Fprintf(&b, "%s\n\n%s.\n", strings.TrimSpace(strings.Join(line, " ")), cmd.short)
	if cmd.long != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(cmd.long))
	}
	first := true
	f.VisitAll(func(fl *flag.Flag) {
		if first {
			fmt.Fprintf(&b, "\nflags:\n")
			first = false
		}
		kind, text := flag.UnquoteUsage(fl)
		fmt.Fprintf(&b, "  %-22s  %s", strings.TrimSpace("--"+fl.Name+" "+kind), text)
		if fl.DefValue != "" && fl.DefValue != "false" && fl.DefValue != "0" && fl.DefValue != "0s" {
			fmt.Fprintf(&b, " (default %s)", fl.DefValue)
		}
		b.WriteByte('\n')
	})
	fmt.Fprintf(&b, "\nexamples:\n")
	for _, e := range cmd.examples {
		fmt.Fprintf(&b, "  %s\n", e)
	}
	_, err := w.Write(b.Bytes())
	return err
}
