package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
)

// mustFind runs verify, which must say that the object or manifest called name is as
// want says, and nothing of another one. Only where it has to read chunks may it pass without
// --read.
func (s *site) mustFind(name, want string, mustRead bool) {
	s.t.Helper()
	if name = strings.TrimPrefix(name, "verneuil://"+hostname+s.dir); strings.HasPrefix(name, "/") {
		name = strings.TrimSpace(must(s.t, "-c", s.config(), "manifest-name", s.path(name)))
	}
	for _, args := range [][]string{{"--read"}, {"--read", "-s", s.path("d.db")}, nil} {
		args = append([]string{"-c", s.config(), "verify"}, args...)
		r := ctl(s.t, args...)
		if len(s.files("store/manifests")) == 0 { // a manifest that is not there names nothing
			if said := "no target has " + s.path("d.db"); len(args) >= 5 &&
				(r.code != 1 || !strings.Contains(r.stderr, said)) {
				s.t.Errorf("%q: exit code %d, want %q: %s", args, r.code, said, r.stderr)
			}
			continue
		}
		if len(args) == 3 && mustRead {
			if r.code != 0 {
				s.t.Errorf("without --read: exit code %d: %s%s", r.code, r.stdout, r.stderr)
			}
			continue
		}
		lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
		last := len(lines) - 1 // a line for each object of a pack
		if r.code != 1 || last < 1 || !strings.HasSuffix(lines[last],
			fmt.Sprintf("missing or damaged: %d", last)) {
			s.t.Errorf("%q: exit code %d:\n%s%s", args, r.code, r.stdout, r.stderr)
		}
		for _, line := range lines[:last] {
			if !strings.Contains(line, name) || !strings.Contains(line, want) {
				s.t.Errorf("%q: want %q, %q: %s", args, name, want, line)
			}
		}
	}
}

// TestVerify: what is whole is found whole, in every target and for each way to
// name it; what one target lacks is not excused by the other.
func TestVerify(t *testing.T) {
	s := dirSite(t)
	s.addTarget("second")
	large, small := s.database("large.db", 5<<20), s.database("small.db", 100<<10)
	for _, db := range []string{large, small} {
		must(t, "-c", s.config(), "sync", db)
	}
	file := s.path("large.manifest")
	must(t, "-c", s.config(), "manifest", large, "-o", file)
	for _, test := range []struct{ args, want string }{
		{"", "versions: 4,"},
		{"--read", "versions: 4,"},
		{"-s " + small, "versions: 2,"},
		{"--read -m verneuil://" + hostname + large, "versions: 2,"},
		{"-m " + file, "versions: 2,"},
	} {
		args := append([]string{"-c", s.config(), "verify"}, strings.Fields(test.args)...)
		got := must(t, args...)
		if !strings.HasPrefix(got, test.want) ||
			!strings.HasSuffix(got, "missing or damaged: 0\n") || strings.Count(got, "\n") != 1 {
			t.Errorf("verify %s: %q, want %q", test.args, got, test.want)
		}
	}

	second := map[string]any{"dir": map[string]any{"path": s.path("second")}}
	s.configure(map[string]any{"replication_targets": []any{second}})
	leaves := s.leafPacks(large) // the first target's may be other packs
	s.configure(nil)
	removed := 0
	for _, file := range s.files("second/chunks") {
		if !slices.Contains(leaves, filepath.Base(file)) && removed < 3 {
			removed++
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := ctl(t, "-c", s.config(), "verify")
	if r.code != 1 || removed < 2 || strings.Count(r.stdout, ": pack ") != removed ||
		strings.Count(r.stdout, "directory "+s.path("second")+": ") != removed ||
		strings.Contains(r.stdout, s.path("store")) {
		t.Errorf("%d packs are gone from the second target: exit code %d\n%s%s", removed, r.code,
			r.stdout, r.stderr)
	}
	refuse(t, 2, []string{"--manifest, excludes"}, "-c", s.config(), "verify", "-m", file, "-s",
		small)
	refuse(t, 1, []string{"no configuration"}, "verify")
}

// TestVerifyTouches: with --touch, what versions name is young afterwards, and what none
// names is as old as it was.
func TestVerifyTouches(t *testing.T) {
	s := dirSite(t)
	db := s.database("a.db", 5<<20)
	must(t, "-c", s.config(), "sync", db)
	other := s.path("store/chunks/ab/ab" + strings.Repeat("0", 62))
	if err := errors.Join(os.MkdirAll(filepath.Dir(other), 0o700),
		os.WriteFile(other, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-40 * 24 * time.Hour)
	for _, args := range []string{"--touch", "--touch --read", "--read"} {
		named := append(s.packs(), s.path("store/chunks/"+chunkstore.MarkerKey))
		for _, name := range named {
			if err := os.Chtimes(name, old, old); err != nil {
				t.Fatal(err)
			}
		}
		must(t, append([]string{"-c", s.config(), "verify", "-s", db}, strings.Fields(args)...)...)
		for _, name := range named {
			stat, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			young := stat.ModTime().After(old.Add(time.Hour))
			if want := name != other && strings.Contains(args, "--touch"); young != want {
				t.Errorf("verify %s: %s is young: %v, want %v", args, name, young, want)
			}
		}
	}
}
