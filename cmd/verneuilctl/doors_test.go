package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// doors is the design's table of rooms: which packages of this module the
// production code of each may import. Tests may open more doors, but no door
// upwards, which Go itself forbids as a cycle.
var doors = map[string][]string{
	"cmd/libverneuil_vfs": {"cgo"},
	"cmd/verneuilctl":     {"vfs", "replicate", "spool", "manifest", "chunkstore"},
	"cgo":                 {"vfs", "replicate"}, // replicate: Source and the snapshots, which C serves
	"vfs":                 {"replicate", "spool", "manifest", "chunkstore"},
	"replicate":           {"spool", "manifest", "chunkstore"},
	"spool":               {"manifest", "chunkstore"},
	"manifest":            {"manifest/manifestpb", "chunkstore"},
	"manifest/manifestpb": {},
	"chunkstore":          {},
}

// testSupport are packages that only tests import.
var testSupport = []string{"chunkstore/miniotest", "chunkstore/faultbucket", "chunkstore/faultproxy", "spool/spooltest", "spool/faultcall"}

// onlyIn names imports that only some rooms may have: SQLite's C stands in one
// room, and a second SQLite must never come into the extension.
var onlyIn = map[string][]string{
	"C":                                {"cgo"},
	"github.com/mattn/go-sqlite3":      {"cmd/verneuilctl"},
	"github.com/spf13/cobra":           {"cmd/verneuilctl"},
	"google.golang.org/protobuf/proto": {"manifest", "manifest/manifestpb"},
}

func TestImportDoors(t *testing.T) {
	const module = "verneuil/"
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if file != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "build") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		relative, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		room := filepath.ToSlash(relative)
		if slices.Contains(testSupport, room) {
			return nil
		}
		allowed, known := doors[room]
		if !known {
			t.Errorf("%s: %s is no room of the design", file, room)
			return nil
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range syntax.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if inner, ok := strings.CutPrefix(imported, module); ok && !slices.Contains(allowed, inner) {
				t.Errorf("%s: %s may not import %s", file, room, inner)
			}
			if rooms, ok := onlyIn[imported]; ok && !slices.Contains(rooms, room) {
				t.Errorf("%s: only %s may import %q", file, strings.Join(rooms, " and "), imported)
			}
			if base := path.Base(imported); strings.HasPrefix(imported, module) &&
				slices.Contains([]string{"util", "common", "helpers", "types"}, base) {
				t.Errorf("%s: no package is called %s", file, base)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Fatal("found no Go files: the test looks in the wrong place")
	}
}
