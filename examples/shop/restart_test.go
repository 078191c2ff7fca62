package main

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/testservices"
)

// overRestartedBroker runs a day over RabbitMQ while the broker is restarted twice.
func overRestartedBroker(t *testing.T, store string) {
	t.Helper()
	s := testservices.Private(t, "rabbitmq")
	cmd := exec.CommandContext(t.Context(), built(t), "--rate", "20", "--patience", "2m")
	cmd.Env = append(os.Environ(), "POSTBUS_TRANSPORT="+s.URL+"?single-active-consumer=true&connect_timeout=60s", "POSTBUS_STORE="+store)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = cmd.Wait()
	}()
	defer func() { <-over }()
	for n := range 2 {
		select {
		case <-over:
			t.Fatalf("the day was over before restart %d:\n%s", n+1, stderr.String())
		case <-time.After(2 * time.Second): // some lines are on their way
		}
		s.Restart(t)
	}
	<-over
	r := result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	r.expectTheDay(t)
	r.expect(t, exitOK, "receive failed, trying again")
}
