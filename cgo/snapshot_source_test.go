package cgo_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/manifest"
	"verneuil/replicate/publishtest"
)

// library is the loadable extension that make has built.
func library(t *testing.T) string {
	t.Helper()
	lib := os.Getenv("VERNEUIL_LIB")
	if lib != "" {
		if _, err := os.Stat(lib); err == nil {
			return lib
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("VERNEUIL_LIB=%q: no such library: build it with make", lib)
	}
	t.Skip("VERNEUIL_LIB does not name the library: run make test")
	return ""
}

// replicaSource is a database with a target that its versions are put into.
type replicaSource struct {
	t        *testing.T
	lib      string
	db       string
	dir      string // of the target
	store    *chunkstore.Store
	sequence uint64
	lineage  byte

	continuity uint64
	settings   map[string]any // of the replica, beyond what env says

	remote bool // it lives in the store, and what changes it is verneuil_remote
}

// newSource makes a source by SQL.
type newSource func(t *testing.T, sql string) *replicaSource

// bothSources runs a test on a replica of a file that is replicated, and on one of a database that
// lives in a store.
func bothSources(t *testing.T, test func(t *testing.T, source newSource)) {
	t.Run("replicated", func(t *testing.T) { test(t, newReplicaSource) })
	t.Run("remote", func(t *testing.T) {
		test(t, func(t *testing.T, sql string) *replicaSource {
			s := &replicaSource{t: t, lib: library(t), dir: t.TempDir(), remote: true}
			s.exec(sql)
			return s
		})
	})
}

// uri is what a replica opens.
func (s *replicaSource) uri() string {
	return "file:" + strings.TrimPrefix(s.name(), "file:") + "?vfs=verneuil_snapshot"
}

// name is the source in that, and in a replica file.
func (s *replicaSource) name() string {
	if s.remote {
		return "file:///st/source.db"
	}
	return "verneuil://source/source.db"
}

func newReplicaSource(t *testing.T, sql string) *replicaSource {
	t.Helper()
	s := &replicaSource{
		t: t, lib: library(t), lineage: 1,
		db: filepath.Join(t.TempDir(), "source.db"), dir: t.TempDir(),
	}
	targets := []chunkstore.TargetConfig{&dir.Config{Path: s.dir}}
	var err error
	unlimited := chunkstore.Options{CallsPerSecond: -1}
	if s.store, err = chunkstore.Open(context.Background(), targets, unlimited); err != nil {
		t.Fatal(err)
	}
	s.exec(sql)
	return s
}

// exec changes the database with stock SQLite, and publishes it; or changes it in its store.
func (s *replicaSource) exec(sql string) {
	s.t.Helper()
	if s.remote {
		cmd := osexec.Command("sqlite3", "-batch", "-bail")
		cmd.Env = s.env()
		cmd.Stdin = strings.NewReader(fmt.Sprintf(".load %s\n.open %s?vfs=verneuil_remote\n%s;\n",
			s.lib, s.name(), sql))
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("%s: %v\n%s", sql, err, out)
		}
		return
	}
	out, err := osexec.Command("sqlite3", "-batch", "-bail", s.db, sql).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", sql, err, out)
	}
	s.publish()
}

func (s *replicaSource) manifest() *manifest.Manifest {
	s.t.Helper()
	file, err := os.ReadFile(s.db)
	if err != nil {
		s.t.Fatal(err)
	}
	s.sequence++
	page := 4096
	if len(file) >= 512 {
		page = int(file[16])<<8 | int(file[17])
	}
	if page == 1 {
		page = 65536
	}
	m := &manifest.Manifest{
		Host: "source", Path: "/source.db", Program: "test",
		Lineage: [16]byte{s.lineage}, Sequence: s.sequence,
		Continuity: s.continuity,
		Time:       time.Unix(1700000000, 0), SourceCtime: time.Unix(1600000000, 5),
		FileBytes: int64(len(file)), PageBytes: page,
	}
	if len(file) >= 512 {
		m.Inline = []manifest.Page{{Data: file[:page]}}
	}
	tree := manifest.NewTree(chunkstore.Plain{}, m.Chunks())
	put := func(objects []chunkstore.Hashed) ([]chunkstore.Place, error) {
		return publishtest.PutAll(s.store.Targets[0], objects)
	}
	var chunks []chunkstore.Hashed
	var indexes []int // theirs
	for i := range m.Chunks() {
		chunk := bytes.Clone(file[i*chunkstore.ChunkBytes:][:m.ChunkBytes(i)])
		if i == 0 {
			// What is inline must not be read from here.
			clear(chunk[:min(page, len(chunk))*len(m.Inline)])
		}
		h := chunkstore.Hash(chunkstore.Plain{}, chunk)
		if h.ID() == chunkstore.ZeroID {
			tree.Set(i, chunkstore.Ref{ID: h.ID()})
		} else {
			chunks, indexes = append(chunks, h), append(indexes, i)
		}
	}
	places, err := put(chunks)
	if err != nil {
		s.t.Fatal(err)
	}
	for k, place := range places {
		tree.Set(indexes[k], chunkstore.Ref{ID: chunks[k].ID(), Place: place})
	}
	m.Levels, m.Top, m.Patches, err = tree.Pack(context.Background(), 256, nil, put)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func (s *replicaSource) publish() {
	s.t.Helper()
	raw, err := s.manifest().Encode(chunkstore.Plain{})
	if err != nil {
		s.t.Fatal(err)
	}
	manifests, name := s.store.Targets[0].Manifests, manifest.PlainName("source", "/source.db")
	ctx := context.Background()
	if _, err := manifests.Put(ctx, name, raw, chunkstore.Condition{}); err != nil {
		s.t.Fatal(err)
	}
}

// env is what a replica's process needs.
func (s *replicaSource) env() []string {
	settings := map[string]any{
		"hostname":             "source",
		"tempdir":              s.t.TempDir(),
		"api_calls_per_second": 10000,
		"manifest_interval_ms": 10,
		"replication_targets":  []any{map[string]any{"dir": map[string]any{"path": s.dir}}},
	}
	if s.remote {
		settings["stores"] = map[string]any{"st": map[string]any{
			"dir": map[string]any{"path": s.dir}}}
		delete(settings, "replication_targets")
	}
	maps.Copy(settings, s.settings)
	config, err := json.Marshal(settings)
	if err != nil {
		s.t.Fatal(err)
	}
	return append(os.Environ(), "VERNEUIL_CONFIG="+string(config), "VERNEUIL_LOG=error")
}

const replicaURI = "file:verneuil://source/source.db?vfs=verneuil_snapshot"

// shell is a running sqlite3 with the library loaded.
type shell struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
	n   int
}

func (s *replicaSource) shell(uri string) *shell {
	s.t.Helper()
	cmd := osexec.Command("sqlite3", "-batch")
	cmd.Env = s.env()
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil && !strings.Contains(err.Error(), "exit status") {
			s.t.Errorf("sqlite3: %v", err)
		}
	})
	sh := &shell{t: s.t, in: in, out: bufio.NewReader(r)}
	if out := sh.run(".load " + s.lib); out != "" {
		s.t.Fatalf(".load: %s", out)
	}
	if out := sh.run(".open " + uri); out != "" {
		s.t.Fatalf(".open %s: %s", uri, out)
	}
	return sh
}

// run runs a line and returns all that it prints.
func (sh *shell) run(line string) string {
	sh.t.Helper()
	sh.n++
	end := fmt.Sprintf("end of %d", sh.n)
	if !strings.HasPrefix(line, ".") {
		line += ";"
	}
	if _, err := fmt.Fprintf(sh.in, "%s\n.print %s\n", line, end); err != nil {
		sh.t.Fatalf("%s: %v", line, err)
	}
	var out strings.Builder
	for {
		got, err := sh.out.ReadString('\n')
		if strings.HasSuffix(strings.TrimSpace(got), end) {
			return strings.TrimSpace(out.String())
		}
		out.WriteString(got)
		if err != nil {
			sh.t.Fatalf("%s: sqlite3 ended: %v\n%s", line, err, out.String())
		}
	}
}

func (sh *shell) want(line, pattern string) {
	sh.t.Helper()
	if out := sh.run(line); !regexp.MustCompile("^(?s:" + pattern + ")$").MatchString(out) {
		sh.t.Errorf("%s: got %q, want %s", line, out, pattern)
	}
}
