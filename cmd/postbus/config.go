package main

import (
	"context"
	"io"

	"github.com/postbus/postbus/config"
)

func configCheckCommand() *command {
	return &command{
		name: "config check", args: "FILE", least: 1, most: 1,
		short: "Print the effective configuration without secrets, or every mistake of it",
		long:  "The variables POSTBUS_… count, as they do for the program.",
		examples: []string{
			"postbus config check shop.yaml",
			"POSTBUS_GROUPS__BILLING__WORKERS=32 postbus config check shop.yaml",
		},
		run: func(_ context.Context, c *call) error {
			cfg, err := config.Load(c.args[0], c.environ)
			if err != nil {
				return err
			}
			effective, err := cfg.Effective()
			if err != nil {
				return err
			}
			_, err = io.WriteString(c.stdout, effective)
			return err
		},
	}
}

func configSchemaCommand() *command {
	return &command{
		name:     "config schema",
		short:    "Print the JSON schema of the configuration, for editors",
		examples: []string{"postbus config schema > schema.json"},
		run: func(_ context.Context, c *call) error {
			_, err := c.stdout.Write(config.Schema())
			return err
		},
	}
}
