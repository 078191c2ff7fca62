package main

import (
	"bytes"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

// builtIn are the orders of a day: see generate.go.
//
//go:generate go run generate.go
//go:embed orders.jsonl
var builtIn []byte

type options struct {
	orders, transport string
	patience          time.Duration
	rate              float64
}

const usage = `Usage: shop [flags]

A small shop of five modules (orders, inventory, payments, shipping, notifications)
that know each other only by events. It puts a file of orders on the bus line by line,
works until each order has come to its end, and compares the books of the modules.

Flags:
%s
A line is an order in JSON:
  {"id":"o-1","customer":"ada@example.com","card":"card-1","items":[{"sku":"cup","quantity":2,"cents":450}]}
Lines that are no orders are set aside, and orders that came before are ignored.
The card "card-declined" is declined; "card-flaky" makes the bank time out twice.

Exit status:
  0    all orders have come to their end, and the books balance
  1    they do not, no line was an order, or the summary cannot be written
  2    wrong flags, or the input or the transport cannot be opened
  130  interrupted (Ctrl-C): what was begun is finished, the summary is partial
`

// parse returns the options; done says that there is nothing left to do, with the exit status.
func parse(args []string, stdout, stderr io.Writer) (o options, status int, done bool) {
	flags := flag.NewFlagSet("shop", flag.ContinueOnError)
	var text bytes.Buffer
	flags.SetOutput(&text)
	flags.Usage = func() {}
	flags.StringVar(&o.orders, "orders", "", "read the orders from `FILE`; - is standard input (default: the built-in day)")
	flags.StringVar(&o.transport, "transport", "memory:", "the `URL` of what carries the messages")
	o.patience = 30 * time.Second
	flags.Var((*span)(&o.patience), "patience", "give up when nothing has moved for this `TIME`")
	flags.Float64Var(&o.rate, "rate", 0, "put at most `N` lines per second on the bus; 0 is no limit")
	err := flags.Parse(args)
	switch {
	case err == flag.ErrHelp:
		text.Reset()
		flags.PrintDefaults()
		if _, err := fmt.Fprintf(stdout, usage, text.String()); err != nil {
			fmt.Fprintf(stderr, "shop: the help cannot be written: %v\n", err)
			return o, exitFailed, true
		}
		return o, exitOK, true
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.patience <= 0:
		err = fmt.Errorf("--patience %v must be positive", o.patience)
	case !(o.rate >= 0 && o.rate <= 1e6):
		err = fmt.Errorf("--rate %v must be 0 to 1000000", o.rate)
	}
	if err != nil {
		fmt.Fprintf(stderr, "shop: %v\nTry --help.\n", err)
		return o, exitUsage, true
	}
	return o, exitOK, false
}

// span is a duration as a flag. Of one without a unit it says what is missing, as that of package flag does not.
type span time.Duration

// String implements flag.Value.
func (s *span) String() string { return time.Duration(*s).String() }

// Set implements flag.Value.
func (s *span) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		if with, err := time.ParseDuration(text + "s"); err == nil && with > 0 {
			return fmt.Errorf("needs a unit, such as %ss", text)
		}
		return errors.New("must be a number with a unit, such as 30s")
	}
	*s = span(d)
	return nil
}

// input opens what is to be read, and names it.
func (o *options) input(stdin io.Reader) (r io.ReadCloser, name string, err error) {
	switch o.orders {
	case "":
		return io.NopCloser(bytes.NewReader(builtIn)), "the built-in orders", nil
	case "-":
		return io.NopCloser(stdin), "standard input", nil
	}
	f, err := os.Open(o.orders)
	if err != nil {
		return nil, "", err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, "", fmt.Errorf("%s is a directory", o.orders)
	}
	return f, o.orders, nil
}

// pace is the pause after each line.
func (o *options) pace() time.Duration {
	if o.rate == 0 {
		return 0
	}
	return time.Duration(float64(time.Second) / o.rate)
}
