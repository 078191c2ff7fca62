package main

import (
	"bytes"
	_ "embed"
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
  1    they do not, or no line was an order
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
	flags.DurationVar(&o.patience, "patience", 30*time.Second, "give up when nothing has moved for this `TIME`")
	flags.Float64Var(&o.rate, "rate", 0, "put at most `N` lines per second on the bus; 0 is no limit")
	err := flags.Parse(args)
	switch {
	case err == flag.ErrHelp:
		text.Reset()
		flags.PrintDefaults()
		fmt.Fprintf(stdout, usage, text.String())
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
