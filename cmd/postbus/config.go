package main

import (
	"context"
	"fmt"
	"io"

	"github.com/postbus/postbus/config"
)

func configCommand(_ context.Context, args, environ []string, stdout io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "check":
		cfg, err := config.Load(args[1], environ)
		if err != nil {
			return err
		}
		effective, err := cfg.Effective()
		if err != nil {
			return err
		}
		_, err = io.WriteString(stdout, effective)
		return err
	case len(args) == 1 && args[0] == "schema":
		_, err := stdout.Write(config.Schema())
		return err
	}
	return fmt.Errorf("%w: postbus config check FILE, or postbus config schema", errUsage)
}
