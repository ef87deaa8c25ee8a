package replica_test

import (
	"os"
	"testing"

	"verneuil/test/scratch"
)

func TestMain(m *testing.M) { os.Exit(scratch.Main(m)) }
