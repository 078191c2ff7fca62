// Package acceptance runs Watermill's own acceptance suite.
package acceptance

import (
	"testing"
	"time"
	_ "unsafe" // for linkname

	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
)

// watermillTimeout is how long Watermill's suite waits for what must come. Its own build tag for slow machines, which sets
// no more than this, would have the whole program compiled once more.
//
//go:linkname watermillTimeout github.com/ThreeDotsLabs/watermill/pubsub/tests.defaultTimeout
var watermillTimeout time.Duration

func init() { watermillTimeout *= 8 }

// Run runs the suite, and gives a slow machine the time that it needs.
func Run(t *testing.T, features tests.Features, pubSub tests.PubSubConstructor, inGroup tests.ConsumerGroupPubSubConstructor) {
	tests.TestPubSub(t, features, pubSub, inGroup)
}
