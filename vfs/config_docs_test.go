package vfs_test

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"verneuil/vfs"
)

// TestConfigDocs: the tables of keys, of targets and of their members that users read name what the
// program knows, and nothing else; a default that stands there as a value is the default.
func TestConfigDocs(t *testing.T) {
	keys, kinds := documented(t)
	if want := known(t, `{"?": 1}`); !slices.Equal(slices.Sorted(maps.Keys(keys)), want) {
		t.Errorf("documented keys:\n%q\nknown:\n%q", slices.Sorted(maps.Keys(keys)), want)
	}
	if want := known(t, `{"replication_targets": [{"?": {}}]}`); !slices.Equal(
		slices.Sorted(maps.Keys(kinds)), want) {
		t.Errorf("documented kinds of target: %q, known: %q", slices.Sorted(maps.Keys(kinds)), want)
	}
	for kind, members := range kinds {
		if want := known(t, `{"replication_targets": [{"`+kind+`": {"?": 1}}]}`); !slices.Equal(
			members, want) {
			t.Errorf("documented members of %s:\n%q\nknown:\n%q", kind, members, want)
		}
	}
	standard, err := vfs.ParseConfig("{}")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for key, value := range keys {
		if key == "api_calls_per_second" ||
			!regexp.MustCompile("^([0-9.]+|`.*`)$").MatchString(value) {
			continue // it means something else where it is given
		}
		checked++
		c, err := vfs.ParseConfig(`{"` + key + `": ` + strings.Trim(value, "`") + `}`)
		if err != nil || !reflect.DeepEqual(c, standard) {
			t.Errorf("%s: the default %s is documented, but it is another: %v", key, value, err)
		}
	}
	if checked < 5 {
		t.Errorf("%d defaults were compared", checked)
	}
}

// known returns the keys that the parser says it knows, when it refuses one called "?".
func known(t *testing.T, text string) []string {
	t.Helper()
	_, err := vfs.ParseConfig(text)
	if err == nil {
		t.Fatalf("%s is accepted", text)
	}
	list := regexp.MustCompile(`(?:known here: |want one of )(.*)$`).FindStringSubmatch(err.Error())
	if list == nil {
		t.Fatalf("%s: %v", text, err)
	}
	names := strings.Split(list[1], ", ")
	slices.Sort(names)
	return names
}

// documented reads the tables: of keys, with their defaults, and of kinds of target, with the names
// of their members, sorted.
func documented(t *testing.T) (defaults map[string]string, members map[string][]string) {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	defaults, members = map[string]string{}, map[string][]string{}
	name := regexp.MustCompile("`([a-z][a-z0-9_]*)`")
	for _, file := range append(files, "../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		table := ""
		for line := range strings.Lines(string(text)) {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			key := name.FindStringSubmatch(cells[0])
			switch {
			case !strings.HasPrefix(line, "|"):
				table = ""
			case cells[0] == "key" || cells[0] == "target":
				table = cells[0]
			case key == nil:
			case table == "key":
				defaults[key[1]] = cells[1]
			case table == "target":
				for _, m := range name.FindAllStringSubmatch(strings.Join(cells[1:], "|"), -1) {
					if !slices.Contains(members[key[1]], m[1]) {
						members[key[1]] = append(members[key[1]], m[1])
					}
				}
				slices.Sort(members[key[1]])
			}
		}
	}
	return defaults, members
}
