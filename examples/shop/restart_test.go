package main

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/store"
)

// overRestartedBroker runs a day over RabbitMQ while the broker is restarted twice.
func overRestartedBroker(t *testing.T, url string) {
	t.Helper()
	s := testservices.Private(t, "rabbitmq")
	cmd := exec.CommandContext(t.Context(), built(t), slices.Concat(unhurried, []string{"--orders", "-", "--rate", "20"})...)
	cmd.Env = append(os.Environ(), "POSTBUS_TRANSPORT="+s.URL+"?single-active-consumer=true&connect_timeout=60s", "POSTBUS_STORE="+url)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = cmd.Wait()
	}()
	defer func() { _ = in.Close(); <-over }()
	db, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	shipped := func() int {
		now, _ := count(t.Context(), db) // there may be no tables yet
		return now.shipped
	}
	// After each restart the day goes on with more lines, so that it is not over before the last, however long one takes.
	lines := bytes.SplitAfter(builtIn, []byte("\n"))
	third := (len(lines) + 2) / 3
	for n := range 3 {
		before := shipped()
		if _, err := in.Write(slices.Concat(lines[n*third : min((n+1)*third, len(lines))]...)); err != nil {
			t.Fatal(err)
		}
		if n == 2 {
			break
		}
		for ; shipped() <= before; time.Sleep(look) { // some lines are on their way
			select {
			case <-over:
				t.Fatalf("the day was over before restart %d:\n%s", n+1, stderr.String())
			default:
			}
		}
		s.Restart(t)
	}
	_ = in.Close()
	<-over
	r := result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	r.expectTheDay(t)
	r.expect(t, exitOK, "receive failed, trying again")
}
