package stores

import (
	"fmt"
	"strings"
	"testing"

	"verneuil/chunkstore/miniotest"
	"verneuil/test/e2e/harness"
)

// TestTwoLiveWriters: two machines, which know nothing of each other, write one database under one
// host name. The one who came last goes on. The other one's next record is refused by the store
// itself: the flush fails, and log and status say who the other one is.
func TestTwoLiveWriters(t *testing.T) {
	for store, site := range map[string]func(*testing.T) *harness.Site{
		"dir":   harness.DirSite,
		"MinIO": harness.MinioSite,
		"versitygw": func(t *testing.T) *harness.Site {
			return harness.S3Site(t, miniotest.StartVersity(t, "minio"))
		},
	} {
		t.Run(store, func(t *testing.T) {
			s := site(t)
			first := s.Written("a.db", "delete")
			first.Flush()
			first.Ask("update t set b = 'first' where a = 1;")
			first.Flush()
			machine := &harness.Site{T: t, Dir: t.TempDir(), Targets: s.Targets}
			machine.Configure(nil)
			second := machine.Shell("")
			second.Must(".open " + s.Path("a.db"))
			second.Must("update t set b = 'second' where a = 1;")
			second.Flush()
			s.MustEqual("a.db")

			first.Ask("update t set b = 'first again' where a = 1;") // the log may say it at once
			if got := first.Ask("pragma verneuil_flush_replication_data;"); got != "0" {
				t.Errorf("flush of the first one: %q", got)
			}
			who := fmt.Sprintf("pid %d on %s (", second.Command.Process.Pid, harness.Hostname)
			for what, said := range map[string]string{
				"status": first.Ask("select verneuil_status();"), "log": first.Stderr(),
			} {
				if !strings.Contains(said, who) {
					t.Errorf("%s: does not say %q: %.1000s", what, who, said)
				}
			}
			second.Must("update t set b = 'second again' where a = 1;")
			second.Flush()
			s.MustEqual("a.db")
		})
	}
}
