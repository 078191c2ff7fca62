package layering

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// mostAdded is how much larger than an empty program one may be that has a bus in process.
const mostAdded = 3 << 20

func TestABusInProcessIsSmall(t *testing.T) {
	t.Parallel()
	empty := size(t, "package main\n\nfunc main() {}\n")
	withBus := size(t, `package main

import (
	"context"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport/memory"
)

type placed struct{ N int }

func (placed) EventName() string { return "orders.placed" }

func main() {
	b, err := bus.New(bus.Config{Transport: memory.New(memory.Config{})})
	if err != nil {
		panic(err)
	}
	bus.Handle(b, "billing", func(ctx context.Context, e placed) error { return b.Publish(ctx, e) })
	if err := b.Run(context.Background()); err != nil {
		panic(err)
	}
}
`)
	t.Logf("an empty program has %d KiB, one with a bus %d KiB more", empty>>10, (withBus-empty)>>10)
	if added := withBus - empty; added > mostAdded {
		t.Errorf("a bus in process adds %d bytes to an empty program, %d are allowed", added, mostAdded)
	}
}

// size returns that of a program without debugging information, as one ships it.
func size(t *testing.T, source string) int64 {
	t.Helper()
	dir := t.TempDir()
	file, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "main")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, file)
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
