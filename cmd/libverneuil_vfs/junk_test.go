package main_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// words say in which state of things something failed.
type words string

func (w words) String() string { return string(w) }

const sums = "select count(*), sum(length(b)), sum(a) from t; pragma integrity_check;"

// TestSpoolDamaged: whatever becomes of a file of the spool while nobody has it open,
// the next process that opens the database sends what that is, and nothing else.
func TestSpoolDamaged(t *testing.T) {
	damages := map[string]func(file string, b []byte) error{
		"deleted": func(file string, _ []byte) error { return os.RemoveAll(file) },
		"emptied": func(file string, _ []byte) error { return os.Truncate(file, 0) },
		"cut":     func(file string, b []byte) error { return os.Truncate(file, int64(len(b)/2)) },
		"junk": func(file string, b []byte) error {
			return os.WriteFile(file, bytes.Repeat([]byte{0x5a}, max(len(b), 100)), 0o600)
		},
	}
	journals := []string{"delete"}
	if os.Getenv("VERNEUIL_FAULT_STRIDE") != "" {
		journals = append(journals, "wal", "wal+exclusive")
	}
	for _, journal := range journals {
		s := dirSite(t)
		begin := func() {
			s.anew()
			s.calm().run(s.script("a.db", workload(journal), true), sqliteShell(t), "-batch")
		}
		begin()
		for _, name := range []string{"state", "mirror", "dirty", "cut", "log.*", "targets.json", "boot", "source.json", "tree"} {
			for how, damage := range damages {
				// junk of the right length in the mirror shows only if it was closed in peace
				if name == "tree" && how != "deleted" || name == "mirror" && how == "junk" {
					continue
				}
				if !t.Run(journal+"/"+name+"/"+how, func(t *testing.T) {
					s.t = t
					defer func() { s.t = t }()
					s.damaged(name, damage)
				}) {
					s.t = t
					begin()
				}
			}
		}
		s.t = t
	}
}

// damaged damages the files of the spool that match name, and sees what comes of it.
func (s *site) damaged(name string, damage func(file string, b []byte) error) {
	s.t.Helper()
	files, err := filepath.Glob(s.path("spool/*/" + name))
	if err != nil || len(files) == 0 && name != "log.*" {
		s.t.Fatalf("the spool has no %s", name)
	}
	for _, file := range files {
		b, _ := os.ReadFile(file) // not of a directory
		if err := damage(file, b); err != nil {
			s.t.Fatal(err)
		}
	}
	s.calm().run(s.script("a.db", []string{"update t set b = b || '!' where a = 2;"}, true), sqliteShell(s.t), "-batch")
	s.recovers(words("a write after the damage"), s.stock("a.db", sums)+"\n")
}
