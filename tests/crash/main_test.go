//go:build amd64

package crash

import (
	"testing"

	"candor.dev/candor/tests/testnode"
)

func TestMain(m *testing.M) { testnode.Main(m) }
