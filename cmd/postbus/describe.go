package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/postbus/postbus/describe"
)

const (
	// describeTimeout bounds the question to a program.
	describeTimeout = 30 * time.Second
	// longestDescription bounds what is read of its answer.
	longestDescription = 64 << 20
)

func describeCommand() *command {
	var format string
	return &command{
		name: "describe", args: "URL", least: 1, most: 1,
		short: "Draw the modules, events, groups and sagas of a running program",
		long: `
The URL is where the program serves describe.Handler. What is printed is a Mermaid diagram, or an AsyncAPI 3 document.`,
		examples: []string{
			"postbus describe http://localhost:8080/describe > shop.mmd",
			"postbus describe http://localhost:8080/describe --format asyncapi | jq .channels",
		},
		flags: func(f *flag.FlagSet) {
			f.StringVar(&format, "format", describe.FormatMermaid, "the `FORMAT`: "+describe.FormatMermaid+" or "+describe.FormatAsyncAPI)
		},
		run: func(ctx context.Context, c *call) error {
			if format != describe.FormatMermaid && format != describe.FormatAsyncAPI {
				return usage("--format %q must be %s or %s", format, describe.FormatMermaid, describe.FormatAsyncAPI)
			}
			u, err := url.Parse(c.args[0])
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
				return usage("describe takes the URL of a running program, as http://localhost:8080/describe")
			}
			q := u.Query()
			q.Set("format", format)
			u.RawQuery = q.Encode()
			text, err := fetchDescription(ctx, u, format)
			if err != nil {
				return fmt.Errorf("describe %s: %w", u.Redacted(), err)
			}
			_, err = io.WriteString(c.stdout, text)
			return err
		},
	}
}

// fetchDescription asks a program for its description.
func fetchDescription(ctx context.Context, u *url.URL, format string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) { // it repeats the URL
			err = failed.Err
		}
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, longestDescription+1))
	text := string(body)
	begins := "flowchart "
	if format == describe.FormatAsyncAPI {
		begins = "{"
	}
	switch {
	case err != nil:
		return "", err
	case response.StatusCode != http.StatusOK:
		return "", fmt.Errorf("the answer is %s: %.200q", response.Status, strings.TrimSpace(text))
	case len(text) > longestDescription:
		return "", fmt.Errorf("the answer has more than %d bytes", longestDescription)
	case !strings.HasPrefix(text, begins):
		return "", fmt.Errorf("the answer is no description: it is %q and begins with %.60q", response.Header.Get("Content-Type"), text)
	}
	return escapeLines(text), nil
}
