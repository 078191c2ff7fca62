package config_test

import (
	"testing"

	"github.com/postbus/postbus/config"
)

func TestOneDatabase(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		transport, store config.URL
		want             bool
	}{
		{"postgres://u:p@db/shop?lease=3s", "postgresql://u:p@db/shop", true},
		{"postgres://u:p@db/shop", "postgres://other:p@db/shop", true},
		{"postgres://u:p@db/shop", "postgres://u:p@db/other", false},
		{"postgres://u:p@db/shop", "postgres://u:p@db2/shop", false},
		{"postgres://u:p@db/shop", "postgres:///shop?host=/run", false},
		{"mysql://db/shop", "postgres://db/shop", false},
		{"sqlite:shop.db?lease=1s", "sqlite:shop.db", true},
		{"sqlite:./shop.db", "sqlite:shop.db", true},
		{"sqlite:/data/shop.db", "sqlite:data/shop.db", false},
		{"sqlite::memory:", "sqlite::memory:", false},
		{"memory:", "", false},
		{"", "", false},
		{"amqp://mq/", "postgres://db/", false},
	} {
		if got := (&config.Config{Transport: tc.transport, Store: tc.store}).OneDatabase(); got != tc.want {
			t.Errorf("%s and %s: %t, want %t", tc.transport, tc.store, got, tc.want)
		}
	}
}
