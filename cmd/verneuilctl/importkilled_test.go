package main

import (
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"verneuil/chunkstore/faultproxy"
)

// packPath is the path of a request for a pack.
var packPath = regexp.MustCompile(`^/chunks/[0-9a-f]{64}$`)

// TestImportKilled: an import that was killed leaves nothing that anybody sees, and the next one
// sends what is missing, and says so.
func TestImportKilled(t *testing.T) {
	s := minioSite(t)
	s3 := s.target["s3"].(map[string]any)
	proxy := faultproxy.Start(t, s3["endpoint"].(string))
	s3["endpoint"] = proxy.URL
	s.withStores()
	db := s.database("d.db", 80<<20)
	isPack := func(r *http.Request) bool {
		return r.Method == http.MethodPut && packPath.MatchString(r.URL.Path)
	}
	var stored, begun atomic.Int64
	const some = 7
	enough := make(chan struct{})
	proxy.After(func(r *http.Request) {
		if isPack(r) && stored.Add(1) == some {
			close(enough)
		}
	})
	proxy.Set(func(_ int, r *http.Request) (f faultproxy.Fault) {
		if isPack(r) && begun.Add(1) > some {
			f.Hold = make(chan struct{})
		}
		return f
	})
	argv := ctlCommand("-c", s.config(), "import", db, "file:///s/d.db")
	command := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	<-enough
	if err := command.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	command.Wait()
	s.refuse(1, []string{"not found"}, "export", "file:///s/d.db", s.path("none.db"))
	proxy.Set(nil)
	proxy.After(func(r *http.Request) {
		if isPack(r) {
			stored.Add(1)
		}
	})
	stored.Store(0)
	r := ctl(t, "-c", s.config(), "import", "--json", db, "file:///s/d.db")
	want := fmt.Sprintf(`"packs_found":%d,`, some)
	if r.code != 0 || !strings.Contains(r.stdout, want) {
		t.Errorf("exit code %d, %q %q, want %s", r.code, r.stdout, r.stderr, want)
	}
	again := stored.Load()
	s.ctl("export", "file:///s/d.db", s.path("out.db"))
	if s.sum(s.path("out.db")) != s.sum(db) {
		t.Error("the copy is another")
	}
	stored.Store(0)
	s.ctl("import", "--replace", s.database("e.db", 80<<20), "file:///s/d.db")
	if all := stored.Load(); again == 0 || again+some > all+1 {
		t.Errorf("%d packs were sent after the kill, %d by an import of as much", again, all)
	}
}
