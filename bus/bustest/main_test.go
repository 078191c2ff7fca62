package bustest_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus/bustest"
)

func TestMain(m *testing.M) {
	_ = os.Unsetenv(bustest.SeedVariable) // the tests of this package choose their seeds
	goleak.VerifyTestMain(m)
}
