package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/postbus/postbus/config"
)

// builtIn are the orders of a day: see generate.go.
//
//go:generate go run generate.go
//go:embed orders.jsonl
var builtIn []byte

type options struct {
	orders, transport string
	describe          string
	patience          time.Duration
	rate              float64
}

const usage = `Usage: shop [flags]

A small shop of five modules (orders, inventory, payments, shipping, notifications)
that know each other only by events, and a saga that leads each order through them.
It puts a file of orders on the bus line by line, works until each order has come to
its end, and compares the books of the modules.

Flags:
%s
Environment:
  POSTBUS_TRANSPORT=amqp://…     what carries the messages, if --transport does not say
  POSTBUS_STORE=postgres://…     the database of the books: PostgreSQL, MySQL or SQLite
and the other variables of a Postbus program, such as POSTBUS_GROUPS__ORDERS__WORKERS=2.
Without them everything is in a temporary SQLite file. With a database, the shop can be
killed at any moment and started again.

A line is an order in JSON:
  {"id":"o-1","customer":"ada@example.com","card":"card-1","items":[{"sku":"cup","quantity":2,"cents":450}]}
Lines that are no orders are set aside, and orders that came before are ignored.
The card "card-declined" is declined, "card-flaky" makes the bank time out twice, and
the payment by "card-silent" is never confirmed.

Exit status:
  0    all orders have come to their end, and the books balance
  1    they do not, no line was an order, or the summary cannot be written
  2    wrong flags, or the input, the transport or the database cannot be opened
  130  interrupted (Ctrl-C): what was begun is finished, the summary is partial
`

// parse returns the options; done says that there is nothing left to do, with the exit status.
func parse(args []string, stdout, stderr io.Writer) (o options, status int, done bool) {
	flags := flag.NewFlagSet("shop", flag.ContinueOnError)
	var text bytes.Buffer
	flags.SetOutput(&text)
	flags.Usage = func() {}
	flags.StringVar(&o.orders, "orders", "", "read the orders from `FILE`; - is standard input (default: the built-in day)")
	flags.StringVar(&o.transport, "transport", "", "the `URL` of what carries the messages, such as memory: or sqlite:shop.db")
	o.patience = 30 * time.Second
	flags.Var((*span)(&o.patience), "patience", "give up when nothing has moved for this `TIME`")
	flags.StringVar(&o.describe, "describe", "", "print the wiring as `FORMAT`, mermaid or asyncapi, and do nothing else")
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
	case o.describe != "" && o.describe != "mermaid" && o.describe != "asyncapi":
		err = fmt.Errorf("--describe %q must be mermaid or asyncapi", o.describe)
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

// place is where messages travel and where the books are.
type place struct {
	transport, store string
	environ          []string // that says so
	temporary        string   // a folder; or empty
}

// ofTransports are the parameters of URLs that are not those of a database.
var ofTransports = []string{"lease", "poll_interval", "partitions", "retention", "stall_warning", "payload"}

// place finds out where to work: what --transport and the environment say, and otherwise in a temporary file. The books
// are in the database of the transport, if it has one and POSTBUS_STORE names none.
func (o *options) place(environ []string) (p place, err error) {
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		switch name {
		case "POSTBUS_TRANSPORT":
			p.transport = value
		case "POSTBUS_STORE":
			p.store = value
		}
	}
	p.transport = cmp.Or(o.transport, p.transport)
	switch scheme, rest, _ := strings.Cut(p.transport, ":"); {
	case p.store != "":
		p.transport = cmp.Or(p.transport, p.store)
	case scheme == "sqlite" && rest != ":memory:", scheme == "mysql", strings.HasPrefix(scheme, "postgres"):
		u, err := url.Parse(p.transport)
		if err != nil {
			return p, errors.New("the URL of the transport cannot be read (its text is withheld, for it can hold a password)")
		}
		q := u.Query()
		for _, name := range ofTransports {
			q.Del(name)
		}
		u.RawQuery = q.Encode()
		p.store = u.String()
	default:
		if p.temporary, err = os.MkdirTemp("", "shop"); err != nil {
			return p, err
		}
		p.store = "sqlite:" + filepath.Join(p.temporary, "shop.db") + "?synchronous=off"
		p.transport = cmp.Or(p.transport, p.store)
	}
	p.environ = append(slices.Clone(environ), "POSTBUS_TRANSPORT="+p.transport, "POSTBUS_STORE="+p.store)
	return p, nil
}

func (p place) remove() {
	if p.temporary != "" {
		_ = os.RemoveAll(p.temporary)
	}
}

// String has no passwords.
func (p place) String() string {
	books, messages := config.URL(p.store).String(), config.URL(p.transport).String()
	if p.temporary != "" {
		books = "in a temporary file"
	} else {
		books = "in " + books
	}
	if p.transport == p.store || messages == "" {
		return books
	}
	return books + ", over " + messages
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
