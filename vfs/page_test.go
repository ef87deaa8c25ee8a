package vfs_test

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"verneuil/vfs"
)

// TestConfigurationPage: docs/configuration.md has every key that is read, and no other; what it
// tells as a default changes nothing; and it names all members of each kind of target.
func TestConfigurationPage(t *testing.T) {
	b, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	keys, members, _ := strings.Cut(string(b), "\n| target | members |\n")
	defaults, err := vfs.ParseConfig("{}")
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (.*?) \\|").
		FindAllStringSubmatch(keys, -1) {
		key, value := m[1], strings.Trim(m[2], "`")
		told = append(told, key)
		if !regexp.MustCompile("^(`.*`|[0-9]+)$").MatchString(m[2]) {
			continue // it is none, or words
		}
		got, err := vfs.ParseConfig(fmt.Sprintf("{%q: %s}", key, value))
		if err != nil || !reflect.DeepEqual(got, defaults) {
			t.Errorf("%s: %s is not the default: %v", key, value, err)
		}
	}
	known := knownTo(t, `{"nothing": 1}`)
	if slices.Sort(told); !slices.Equal(told, known) {
		t.Errorf("the code has\n%q\nand the page\n%q", known, told)
	}
	for _, kind := range knownTo(t, `{"replication_targets": [{"nothing": {}}]}`) {
		row := regexp.MustCompile("(?m)^\\| `" + kind + "` \\|.*$").FindString(members)
		for _, m := range knownTo(t, fmt.Sprintf(`{"replication_targets": [{%q: {"nothing": 1}}]}`,
			kind)) {
			if !strings.Contains(row, "`"+m+"`") {
				t.Errorf("the page does not name %s of %s: %q", m, kind, row)
			}
		}
	}
}

// knownTo returns the keys that are known where text has one that is not.
func knownTo(t *testing.T, text string) []string {
	t.Helper()
	_, err := vfs.ParseConfig(text)
	m := regexp.MustCompile("(known here:|want one of) (.*)$").FindStringSubmatch(fmt.Sprint(err))
	if m == nil {
		t.Fatalf("%s: %v", text, err)
	}
	return strings.Split(m[2], ", ")
}
