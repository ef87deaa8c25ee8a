package arch_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Limits for what a reader takes in at one look. A tab is four columns.
const (
	columnsMax  = 100
	tabColumns  = 4
	functionMax = 70 // lines, the one with func and the one with the last brace included
	fileMax     = 600
	fieldsMax   = 15
	methodsMax  = 25
)

// TestSizes: every room keeps to the sizes.
func TestSizes(t *testing.T) {
	report := func(s source, line int, format string, args ...any) {
		t.Errorf("%s:%d: %s", s.file, line, fmt.Sprintf(format, args...))
	}
	methods := make(map[string]int) // of a type, by package and name
	all := sources(t)
	for _, s := range all {
		for _, d := range s.ast.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv != nil {
				methods[s.typeName(receiver(d))]++
			}
		}
	}
	var large []string
	for _, s := range all {
		text, err := os.ReadFile(filepath.Join("..", "..", s.file))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		if n := len(lines) - 1; n > fileMax {
			report(s, 1, "%d lines, at most %d", n, fileMax)
		}
		data := s.dataLines()
		for k, line := range lines {
			if n := columns(line); n > columnsMax && !unbreakable(line) && !data[k+1] {
				report(s, k+1, "%d columns, at most %d", n, columnsMax)
			}
		}
		large = append(large, s.declarations(func(pos token.Pos, format string, args ...any) {
			report(s, s.line(pos), format, args...)
		}, methods)...)
	}
	for name := range largeTypes {
		if !slices.Contains(large, name) {
			t.Errorf("%s is not that large: take it from largeTypes", name)
		}
	}
}

// declarations reports functions and types that are too large, and returns the types, whether
// largeTypes has them or not.
func (s source) declarations(report func(pos token.Pos, format string, args ...any),
	methods map[string]int) (large []string) {
	for _, d := range s.ast.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if n := s.line(d.End()) - s.line(d.Pos()) + 1; n > functionMax {
				report(d.Pos(), "%s has %d lines, at most %d", d.Name.Name, n,
					functionMax)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				spec, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				name := s.typeName(spec.Name.Name)
				nFields, nMethods := fields(spec.Type), methods[name]
				if nFields <= fieldsMax && nMethods <= methodsMax {
					continue
				}
				large = append(large, name)
				if largeTypes[name] == "" {
					report(spec.Pos(), "%s has %d fields, at most %d, and %d methods, "+
						"at most %d", name, nFields, fieldsMax, nMethods, methodsMax)
				}
			}
		}
	}
	return large
}

// typeName names a type of the package that s is a file of. A room may have a package of tests.
func (s source) typeName(name string) string {
	if strings.HasSuffix(s.ast.Name.Name, "_test") {
		return s.room + "_test." + name
	}
	return s.room + "." + name
}

// receiver returns the name of the type that d is a method of.
func receiver(d *ast.FuncDecl) string {
	x := d.Recv.List[0].Type
	for {
		switch y := x.(type) {
		case *ast.StarExpr:
			x = y.X
		case *ast.IndexExpr:
			x = y.X
		case *ast.IndexListExpr:
			x = y.X
		case *ast.Ident:
			return y.Name
		default:
			return ""
		}
	}
}

// fields counts the fields of a struct; 0 of any other type.
func fields(x ast.Expr) (n int) {
	s, ok := x.(*ast.StructType)
	if !ok {
		return 0
	}
	for _, f := range s.Fields.List {
		n += max(1, len(f.Names))
	}
	return n
}

// columns is how wide a line is.
func columns(line string) int {
	return utf8.RuneCountInString(line) + (tabColumns-1)*strings.Count(line, "\t")
}

// dataLines are the lines that are in a raw string of several lines: texts and programs, which a
// break would change.
func (s source) dataLines() map[int]bool {
	lines := make(map[int]bool)
	ast.Inspect(s.ast, func(n ast.Node) bool {
		if x, ok := n.(*ast.BasicLit); ok && strings.Contains(x.Value, "\n") {
			for k := s.line(x.Pos()); k <= s.line(x.End()); k++ {
				lines[k] = true
			}
		}
		return true
	})
	return lines
}

// unbreakable reports whether a line is one long word, such as an address.
func unbreakable(line string) bool {
	return len(strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "//"))) <= 1
}
