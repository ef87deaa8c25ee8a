package arch_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCFilesCallDownwards: no C file calls one that stands above it in the list of package cgo's
// documentation. Files whose names begin alike, as recorder_file.c and recorder_txn.c do, are
// one there.
func TestCFilesCallDownwards(t *testing.T) {
	unit := func(file string) string {
		name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".c"), "_")
		return name
	}
	level := make(map[string]int) // of a unit: its line in the list
	for n, line := range cLevels(t) {
		for _, name := range line {
			level[name] = n
		}
	}
	files, err := filepath.Glob("../../cgo/*.c")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d C files (%v)", len(files), err)
	}
	code := make(map[string]string)
	home := make(map[string]string) // of an external name
	definition := regexp.MustCompile(`(?m)^(?:[A-Za-z_][\w ]*[ *])(\w+)(?:\([^;]*\) \{| = |;$|\[)`)
	internal := regexp.MustCompile(`^(static|typedef|extern|return|struct|enum)\b`)
	for _, file := range files {
		code[file] = cCode(t, file)
		for _, m := range definition.FindAllStringSubmatch(code[file], -1) {
			if !internal.MatchString(m[0]) {
				home[m[1]] = file
			}
		}
	}
	if len(home) < 100 {
		t.Fatalf("%d external names: the test does not see what C defines", len(home))
	}
	word := regexp.MustCompile(`\w+`)
	for _, file := range files {
		if _, ok := level[unit(file)]; !ok {
			t.Errorf("%s is not in the list of cgo/doc.go", file)
		}
		for _, name := range word.FindAllString(code[file], -1) {
			other := home[name]
			if other != "" && level[unit(other)] < level[unit(file)] {
				t.Errorf("%s names %s, of %s, which is above it", file, name, other)
				delete(home, name)
			}
		}
	}
}

// cCode returns a C file without comments, strings and lines of the preprocessor.
func cCode(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	none := regexp.MustCompile(`(?s)/\*.*?\*/|"(?:\\.|[^"\\])*"|(?m-s:^#.*$)`)
	return none.ReplaceAllString(string(b), "")
}

// cLevels returns the names in the list of C files, line by line.
func cLevels(t *testing.T) (levels [][]string) {
	t.Helper()
	b, err := os.ReadFile("../../cgo/doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		names, ok := strings.CutPrefix(line, "//\t")
		if !ok {
			continue
		}
		names, _, _ = strings.Cut(names, "   ")
		list := strings.Fields(strings.ReplaceAll(names, ",", " "))
		for i := range list {
			list[i] = strings.TrimSuffix(list[i], "*")
		}
		levels = append(levels, list)
	}
	if len(levels) < 8 {
		t.Fatalf("%d lines in the list of cgo/doc.go", len(levels))
	}
	return levels
}
