package arch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	pathpkg "path"
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
	".":                   {"cgo"}, // what programs in Go import
	"cmd/libverneuil_vfs": {"cgo"},
	"cmd/dist":            {"vfs"},
	"cmd/verneuilctl": {
		"vfs",
		"replicate/upkeep",
		"replicate/restore",
		"replicate",
		"replicate/mirror",
		"replicate/remote", "replicate/remote/cephsqlite", "replicate/remote/deposit",
		"replicate/locate", "replicate/versions", "replicate/proof",
		"spool", "spool/sqlitefile", "manifest", "manifest/history", "chunkstore", "chunkstore/dir",
		"chunkstore/probe", "chunkstore/keyring",
	},
	// the readers and writers, which C serves
	"cgo": {"vfs", "replicate/replica", "replicate/remote", "replicate/remote/compose",
		"cgo/librados"}, // to end its threads
	"vfs": {
		"replicate/replica", "replicate/remote", "replicate/locate",
		"replicate",
		"replicate/courier",
		"replicate/mirror",
		"spool", "manifest", "chunkstore", "chunkstore/probe",
		// to register them
		"replicate/backoff",
		"chunkstore/cache", "chunkstore/dir", "chunkstore/rados", "chunkstore/s3",
		"chunkstore/keyring",
	},
	"replicate/remote": {
		"replicate/remote/compose", "replicate/remote/machine", "replicate/replica",
		"replicate/locate", "replicate/versions", "replicate/backoff", "replicate/bell",
		"manifest", "manifest/history", "chunkstore",
	},
	"replicate/bell":           {"chunkstore"},
	"replicate/remote/compose": {"spool/sqlitefile", "manifest", "chunkstore"},
	"replicate/remote/deposit": {
		"replicate/remote/compose", "replicate/versions", "spool/sqlitefile",
		"manifest", "manifest/history", "chunkstore",
	},
	"replicate/remote/cephsqlite": {"cgo/librados"},
	"replicate/remote/machine":    {"chunkstore"},
	"replicate/upkeep": {
		"replicate/versions", "manifest", "manifest/history", "chunkstore",
	},
	"replicate/restore": {
		"replicate/mirror", "spool/sqlitefile", "manifest", "chunkstore", "chunkstore/objectfile",
	},
	"replicate/replica": {"replicate/locate", "spool/sqlitefile", "manifest", "chunkstore"},
	"replicate": {
		"replicate/courier", "replicate/cutter", "replicate/mirror",
		"replicate/errands", "replicate/backoff",
		"spool", "spool/sqlitefile", "manifest", "chunkstore",
	},
	"replicate/courier": {
		"replicate/cutter", "replicate/mirror", "replicate/patrol", "replicate/versions",
		"replicate/locate", "replicate/errands", "replicate/backoff", "replicate/bell",
		"spool", "manifest", "manifest/history", "chunkstore",
	},
	"replicate/cutter": {"replicate/mirror", "replicate/errands",
		"spool", "spool/sqlitefile", "manifest", "chunkstore"},
	"replicate/mirror":  {"replicate/backoff", "spool", "spool/sqlitefile", "chunkstore"},
	"replicate/patrol":  {"replicate/backoff", "spool", "manifest", "chunkstore"},
	"replicate/errands": {},
	"replicate/backoff": {},
	"replicate/proof":   {"chunkstore"},
	// s3: of URIs
	"replicate/locate": {"replicate/versions", "replicate/bell", "spool/sqlitefile", "manifest",
		"chunkstore"},
	"spool":               {"chunkstore"},
	"spool/sqlitefile":    {},
	"replicate/versions":  {"manifest", "manifest/history", "chunkstore"},
	"manifest":            {"manifest/manifestpb", "manifest/history", "chunkstore"},
	"manifest/history":    {"chunkstore"},
	"manifest/manifestpb": {},

	"chunkstore/cache":      {"chunkstore", "chunkstore/objectfile"},
	"chunkstore/dir":        {"chunkstore", "chunkstore/objectfile"},
	"chunkstore/rados":      {"chunkstore", "cgo/librados"},
	"chunkstore/s3":         {"chunkstore"},
	"chunkstore/keyring":    {"chunkstore"},
	"chunkstore/objectfile": {"chunkstore"},
	"chunkstore/probe":      {"chunkstore"},
	"cgo/librados":          {},
	"chunkstore":            {},

	// programs beside the product
	"bench": {"replicate/versions", "manifest", "manifest/history", "chunkstore",
		"chunkstore/s3", "cgo/librados", "test/cephtest"},
	"examples/go":       {},
	"test/sqlite":       {},
	"test/hosts/goload": {"test/hosts/gowork"},
	"test/hosts/golink": {"test/hosts/gowork", "cgo"},
	"test/hosts/noload": {},
	"test/hosts/gowork": {},
	"test/arch":         {},
	"test/dist":         {},
}

// testSupport are packages that only tests import.
var testSupport = []string{"chunkstore/storetest", "replicate/publishtest", "chunkstore/miniotest",
	"chunkstore/faultbucket", "chunkstore/faultproxy", "spool/spooltest", "spool/faultcall",
	"test/crash", "test/scratch", "test/e2e/harness", "test/cephtest", "test/tied"}

// onlyIn names imports that only some rooms may have: SQLite's C stands in one
// room, librados's in another, and a second SQLite must never come into the extension.
var onlyIn = map[string][]string{
	"C": {"cgo", "cgo/librados"},
	"github.com/mattn/go-sqlite3": {".", "cmd/verneuilctl", "test/hosts/goload",
		"test/hosts/golink", "test/hosts/noload"},
	"github.com/aws/aws-sdk-go-v2/service/s3":        {"chunkstore/s3"},
	"golang.org/x/crypto/chacha20poly1305":           {"chunkstore/keyring"},
	"golang.org/x/crypto/chacha20":                   {"chunkstore/keyring"},
	"github.com/spf13/cobra":                         {"cmd/verneuilctl"},
	"github.com/prometheus/client_golang/prometheus": {"cmd/verneuilctl"},
	"google.golang.org/protobuf/proto":               {"manifest", "manifest/manifestpb"},
}

// source is one Go file of the module.
type source struct {
	file string // from the module's root
	room string // its directory from there
	test bool
	ast  *ast.File
	fset *token.FileSet
}

// sources parses every Go file of the module, but for what is generated.
func sources(t *testing.T) (all []source) {
	t.Helper()
	root := filepath.Join("..", "..")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" ||
			name == "build") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		file, err := filepath.Rel(root, path)
		must(err)
		s := source{file: filepath.ToSlash(file), test: strings.HasSuffix(name, "_test.go"),
			fset: token.NewFileSet()}
		s.room = pathpkg.Dir(s.file)
		s.ast, err = parser.ParseFile(s.fset, path, nil, parser.ParseComments)
		must(err)
		if !ast.IsGenerated(s.ast) {
			all = append(all, s)
		}
		return nil
	}))
	if len(all) < 100 {
		t.Fatalf("found %d Go files: the test looks in the wrong place", len(all))
	}
	return all
}

func (s source) line(pos token.Pos) int { return s.fset.Position(pos).Line }

func TestImportDoors(t *testing.T) {
	const module = "verneuil/"
	for _, s := range sources(t) {
		if s.test || slices.Contains(testSupport, s.room) {
			continue
		}
		file, room := s.file, s.room
		allowed, known := doors[room]
		if !known {
			t.Errorf("%s: %s is no room of the design", file, room)
			continue
		}
		for _, spec := range s.ast.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			inner, ok := strings.CutPrefix(imported, module)
			if ok && !slices.Contains(allowed, inner) {
				t.Errorf("%s: %s may not import %s", file, room, inner)
			}
			if rooms, ok := onlyIn[imported]; ok && !slices.Contains(rooms, room) {
				t.Errorf("%s: only %s may import %q", file, strings.Join(rooms, " and "), imported)
			}
			if base := pathpkg.Base(imported); strings.HasPrefix(imported, module) &&
				slices.Contains([]string{"util", "common", "helpers", "types"}, base) {
				t.Errorf("%s: no package is called %s", file, base)
			}
		}
	}
}

// TestNobodySleeps: a test waits for an event, or has the clock injected.
func TestNobodySleeps(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test && !slices.Contains(testSupport, s.room) {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if call, ok := n.(*ast.SelectorExpr); ok && call.Sel.Name == "Sleep" {
				if x, ok := call.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s:%d: time.Sleep", s.file, s.line(n.Pos()))
				}
			}
			return true
		})
	}
}

// TestExportedNamesHaveContracts: what a package exports says what it is. One comment may
// speak of a whole group, as of constants.
func TestExportedNamesHaveContracts(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.ast.Name.Name == "main" {
			continue
		}
		for _, d := range s.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && d.Doc == nil &&
					!known[d.Name.Name] {
					t.Errorf("%s:%d: %s has no comment", s.file, s.line(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if name, ok := uncommented(spec); ok && d.Doc == nil {
						t.Errorf("%s:%d: %s has no comment", s.file, s.line(spec.Pos()), name)
					}
				}
			}
		}
	}
}

// known are methods whose contract is their interface's, in the standard library.
var known = map[string]bool{"String": true, "Error": true, "Unwrap": true, "Write": true,
	"Read": true, "Close": true, "ReadAt": true,
	"MarshalJSON": true, "UnmarshalJSON": true, "MarshalText": true, "UnmarshalText": true}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	receiver := d.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	name, ok := receiver.(*ast.Ident)
	return ok && name.IsExported()
}

// uncommented returns the exported name that spec declares without a comment of its own.
func uncommented(spec ast.Spec) (string, bool) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		return spec.Name.Name, spec.Name.IsExported() && spec.Doc == nil && spec.Comment == nil
	case *ast.ValueSpec:
		return spec.Names[0].Name, spec.Names[0].IsExported() && spec.Doc == nil &&
			spec.Comment == nil
	}
	return "", false
}
