package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/faultproxy"
)

// TestRestoreGoesOn: a restore that fails in the end says what it leaves, and what to do; the next
// one, of another version, uses that, and leaves nothing.
func TestRestoreGoesOn(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 80<<20) // its last pack is asked for when many are written
	must(t, "-c", s.config(), "sync", db)
	name := s.lastPack(db)
	pack := s.path("store/chunks/" + name[:2] + "/" + name)
	was, err := os.ReadFile(pack)
	if err := errors.Join(err, os.Remove(pack)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.path("here"), 0o700); err != nil {
		t.Fatal(err)
	}
	out := s.path("here/out.db")
	parts := func() (names []string) {
		names, err := filepath.Glob(s.path("here/.verneuil-restore-*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	args := []string{"-c", s.config(), "restore", db, "-o", out}
	refuse(t, 1, []string{"restore " + db, name, "not found",
		"MiB are in " + s.path("here/.verneuil-restore-"), "goes on from there", "versions, --at"},
		args...)
	first := parts()
	if len(first) != 1 {
		t.Fatalf("part files: %q", first)
	}
	refuse(t, 1, []string{first[0]}, args...) // and again
	if got := parts(); len(got) != 1 || got[0] != first[0] {
		t.Errorf("part files: %q, was %q", got, first)
	}
	if err := os.WriteFile(pack, was, 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, db, "UPDATE t SET x = randomblob(10000) WHERE rowid % 100 = 3")
	must(t, "-c", s.config(), "sync", db)
	must(t, args...)
	if s.sum(out) != s.sum(db) {
		t.Error("the restored database differs")
	}
	if left, err := os.ReadDir(s.path("here")); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestRestoreInterrupted: Ctrl-C in the midst of a restore says what it leaves, and the next one
// asks for less.
func TestRestoreInterrupted(t *testing.T) {
	s := minioSite(t)
	s3 := s.target["s3"].(map[string]any)
	proxy := faultproxy.Start(t, s3["endpoint"].(string))
	s3["endpoint"] = proxy.URL
	s.configure(nil)
	db := s.database("d.db", 80<<20)
	must(t, "-c", s.config(), "sync", db)
	last := s.lastPack(db)
	asked := make(chan struct{}, 1)
	var packs atomic.Int64
	count := func(r *http.Request) { // not of chunks one by one, as those that have inline pages
		if packPath.MatchString(r.URL.Path) && r.Header.Get("Range") == "" {
			packs.Add(1)
		}
	}
	proxy.Set(func(_ int, r *http.Request) (f faultproxy.Fault) {
		count(r)
		if strings.Contains(r.URL.Path, last) {
			select {
			case asked <- struct{}{}:
			default: // it asks again
			}
			f.Hold = make(chan struct{})
		}
		return f
	})
	out := s.path("out.db")
	argv := ctlCommand("-c", s.config(), "restore", db, "-o", out)
	command := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	var stderr strings.Builder
	command.Stderr = &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := command.Wait()
	all := packs.Swap(0)
	if command.ProcessState.ExitCode() != 130 ||
		!strings.Contains(stderr.String(), ": interrupted; ") ||
		!strings.Contains(stderr.String(), " MiB are in "+s.path(".verneuil-restore-")) {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	proxy.Set(func(_ int, r *http.Request) (f faultproxy.Fault) {
		count(r)
		return f
	})
	must(t, "-c", s.config(), "restore", db, "-o", out)
	if s.sum(out) != s.sum(db) {
		t.Error("the restored database differs")
	}
	s.noLeftovers("")
	if again := packs.Load(); again > all-8 {
		t.Errorf("%d requests for whole packs, and %d before: all but 48 MiB was written", again,
			all)
	}
}

// lastPack returns the name of the pack in which db's last chunk stands.
func (s *site) lastPack(db string) string {
	s.t.Helper()
	ctx := s.t.Context()
	session, err := (&global{config: s.config(), log: slog.New(slog.DiscardHandler)}).open(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	defer session.Close()
	found, err := (&origin{sourcePath: db}).fetch(ctx, session)
	if err != nil {
		s.t.Fatal(err)
	}
	tree := found.Manifest.Tree(session.store.Sealer())
	ref, err := tree.Lookup(ctx, tree.Len()-1,
		func(ctx context.Context, refs []chunkstore.Ref) ([][]byte, error) {
			return session.store.GetObjects(ctx, found.From, refs)
		})
	if err != nil {
		s.t.Fatal(err)
	}
	return ref.Place.Pack.String()
}

// write runs a statement on the database, without the extension.
func write(t *testing.T, db, statement string) {
	t.Helper()
	conn, err := openDatabase(db, "rw")
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.ExecContext(t.Context(), statement)
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
}
