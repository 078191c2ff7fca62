package main

import (
	"fmt"
	"io"

	"go.uber.org/fx"

	"github.com/postbus/postbus/describe"
)

// print writes the wiring of the application, which is not started.
func (o *options) print(out io.Writer, shop fx.Option) error {
	var p describe.Program
	if err := fx.New(shop, fx.Populate(&p)).Err(); err != nil {
		return err
	}
	text := describe.Mermaid(p)
	if o.describe == "asyncapi" {
		document, err := describe.AsyncAPI(p)
		if err != nil {
			return err
		}
		text = string(document) + "\n"
	}
	if _, err := io.WriteString(out, text); err != nil {
		return fmt.Errorf("the description cannot be written: %w", err)
	}
	return nil
}
