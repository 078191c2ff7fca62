// Package shop measures the example that is an application.
package shop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/postbus/postbus/benchmarks/internal/bench"
)

// mostMilliseconds is how long the application may take to start.
const mostMilliseconds = 300

// Suite is the suite shop.
var Suite = bench.Suite{
	Name:  "shop",
	About: "examples/shop, an fx application on SQLite: from the start of its process to its end, with nothing to do",
	Open:  build,
	Cases: []bench.Case{
		{Name: "startup", N: 1, Unit: "ms", Ours: startup(false), AtMost: mostMilliseconds},
		{Name: "startup-known-file", N: 1, Unit: "ms", Ours: startup(true), AtMost: mostMilliseconds},
	},
}

// folder holds the program, and a file that it knows.
var folder string

func build(ctx context.Context) (func() error, error) {
	var err error
	if folder, err = os.MkdirTemp("", "postbus-bench"); err != nil {
		return nil, err
	}
	closeAll := func() error { return os.RemoveAll(folder) }
	cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(folder, "shop"), "./examples/shop")
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("go build: %w\n%s", err, out), closeAll())
	}
	return closeAll, run(ctx, filepath.Join(folder, "known.db"))
}

// run starts the program on a file, with no orders.
func run(ctx context.Context, file string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(folder, "shop"), "--orders", "-", "--transport", "sqlite:"+file)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 { // there was nothing to do
		return nil
	}
	return fmt.Errorf("the shop: %v\n%s", err, out)
}

func startup(known bool) bench.Contender {
	return func(ctx context.Context, r *bench.Run) error {
		file := filepath.Join(folder, "known.db")
		if !known {
			file = filepath.Join(folder, fmt.Sprintf("new-%d.db", time.Now().UnixNano()))
		}
		r.Start()
		began := time.Now()
		if err := run(ctx, file); err != nil {
			return err
		}
		r.Stop(1)
		r.Report(float64(time.Since(began)) / float64(time.Millisecond))
		return nil
	}
}
