package busfx_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/transport"
)

// parts are the modules of an application whose hooks are in a journal.
func parts(j *journal) []fx.Option {
	return []fx.Option{
		busfx.Module,
		fx.Module("billing",
			fx.Provide(newBilling),
			busfx.Handle("billing", (*billing).charge),
			busfx.Handle("ledger", (*billing).note),
		),
		fx.Module("database", fx.Provide(newDatabase)),
		fx.Module("transport", fx.Provide(newTransport)),
		fx.Supply(j, slog.New(slog.DiscardHandler)),
		fx.NopLogger,
	}
}

func start(t *testing.T, opts ...fx.Option) *fx.App {
	t.Helper()
	app := fx.New(opts...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel() // what ran on the context of the start would end here
	if err := app.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return app
}

func stop(t *testing.T, app *fx.App) {
	t.Helper()
	if err := app.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestOrderOfLifeWhateverTheOrderOfModules(t *testing.T) {
	t.Parallel()
	n := len(parts(&journal{}))
	for first := range n {
		for _, step := range []int{1, n - 1} {
			j := &journal{}
			all := parts(j)
			var opts []fx.Option
			for i := range n {
				opts = append(opts, all[(first+i*step)%n])
			}
			var events bus.Publisher
			var service *billing
			app := start(t, append(opts, fx.Populate(&events, &service))...)
			for _, e := range []bus.Event{placed{1}, placed{-1}} {
				if err := events.Publish(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			j.await(t, "paid 1")
			j.await(t, "charge -1")
			time.AfterFunc(10*time.Millisecond, func() { close(service.block) })
			stop(t, app)
			j.inOrder(t, "start database", "start billing", "subscribe billing", "charge -1", "charged -1", "unsubscribe",
				"stop billing", "stop database")
			j.inOrder(t, "start transport", "subscribe billing", "charged -1", "unsubscribe", "unsubscribe", "stop transport")
		}
	}
}

func TestASourceStartsAfterTheBusAndStopsBefore(t *testing.T) {
	t.Parallel()
	type server struct{}
	j := &journal{}
	source := fx.Module("server",
		fx.Provide(func(_ *busfx.Running, events bus.Publisher, lc fx.Lifecycle) *server {
			lc.Append(fx.Hook{
				OnStart: func(ctx context.Context) error { j.add("start server"); return events.Publish(ctx, placed{1}) },
				OnStop:  func(ctx context.Context) error { j.add("stop server"); return events.Publish(ctx, placed{2}) },
			})
			return &server{}
		}),
		fx.Invoke(func(*server) {}),
	)
	app := start(t, append([]fx.Option{source}, parts(j)...)...) // invoked before the bus
	j.await(t, "charged 1")
	stop(t, app)
	j.inOrder(t, "start database", "subscribe billing", "start server", "stop server", "unsubscribe", "stop database")
}

func TestTheDrainEndsInTimeForThoseAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		var events bus.Publisher
		app := start(t, append(parts(j), fx.Populate(&events))...)
		if err := events.Publish(t.Context(), placed{-1}); err != nil {
			t.Fatal(err)
		}
		j.await(t, "charge -1")
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if err := app.Stop(ctx); err != nil {
			t.Errorf("Stop = %v", err)
		}
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("the drain took %v of 3 s, want most of it", took)
		}
		j.inOrder(t, "cancelled", "unsubscribe", "stop billing", "stop database")
		j.inOrder(t, "unsubscribe", "stop transport")
	})
}

func TestTheDrainHasTheTimeOfTheStopHook(t *testing.T) {
	t.Parallel()
	j := &journal{}
	var events bus.Publisher
	var service *billing
	app := start(t, append(parts(j), fx.Populate(&events, &service), fx.Supply(bus.Config{StopTimeout: time.Nanosecond}))...)
	if err := events.Publish(t.Context(), placed{-1}); err != nil {
		t.Fatal(err)
	}
	j.await(t, "charge -1")
	time.AfterFunc(100*time.Millisecond, func() { close(service.block) })
	stop(t, app)
	j.inOrder(t, "charged -1", "unsubscribe")
}

func TestAFatalErrorShutsTheApplicationDown(t *testing.T) {
	t.Parallel()
	j := &journal{}
	var tr transport.Transport
	app := start(t, append(parts(j), fx.Populate(&tr))...)
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case signal := <-app.Wait():
		if signal.ExitCode != 1 {
			t.Errorf("exit code %d, want 1", signal.ExitCode)
		}
	case <-time.After(time.Minute):
		t.Fatal("the application goes on without its transport")
	}
	expectError(t, app.Stop(context.Background()), "postbus: bus: group", "closed from outside")
	j.inOrder(t, "stop billing", "stop database")
}
