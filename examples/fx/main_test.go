package main

import (
	"testing"

	"go.uber.org/fx"
)

func TestTheApplicationIsValid(t *testing.T) {
	t.Parallel()
	if err := fx.ValidateApp(options()...); err != nil {
		t.Error(err)
	}
}
