package main

import (
	"io"
	"path/filepath"
	"testing"

	"go.uber.org/fx"
)

// BenchmarkStartup builds and starts the application on an SQLite file, with all its tables: a new file each time, or one
// that is there.
func BenchmarkStartup(b *testing.B) {
	for _, state := range []string{"new", "known"} {
		b.Run(state, func(b *testing.B) {
			dir := b.TempDir()
			file := filepath.Join(dir, "shop.db")
			if state == "known" {
				startAndStop(b, file)
			}
			for b.Loop() {
				if state == "new" {
					b.StopTimer()
					file = filepath.Join(b.TempDir(), "shop.db")
					b.StartTimer()
				}
				startAndStop(b, file)
			}
		})
	}
}

func startAndStop(b *testing.B, file string) {
	p, err := (&options{transport: "sqlite:" + file}).place(nil)
	if err != nil {
		b.Fatal(err)
	}
	app := fx.New(shop(p.environ, io.Discard))
	if err := app.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if err := app.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}
