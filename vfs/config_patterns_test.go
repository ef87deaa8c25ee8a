package vfs_test

import (
	"reflect"
	"strings"
	"testing"

	"verneuil/vfs"
)

func TestMakeDefaultPatterns(t *testing.T) {
	t.Setenv("HOME", "/home/u")
	for text, want := range map[string]vfs.Config{
		`{"make_default": true}`:  {MakeDefault: true},
		`{"make_default": false}`: {},
		`{"make_default": null}`:  {},
		`{"make_default": {}}`:    {MakeDefault: true},
		`{"make_default": {
			"include": ["*.db", "~/x/*", "/srv/[^a-z]?"], "exclude": ["*/cache/*", "[]]"]
		}}`: {
			MakeDefault: true, Patterns: vfs.Patterns{
				Include: []string{"*.db", "/home/u/x/*", "/srv/[^a-z]?"},
				Exclude: []string{"*/cache/*", "[]]"},
			}},
	} {
		got, err := vfs.ParseConfig(text)
		if err != nil || got.MakeDefault != want.MakeDefault ||
			!reflect.DeepEqual(got.Patterns, want.Patterns) {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, c := range []struct{ text, want string }{
		{`{"make_default": 1}`, "make_default: is a number, want true, false, or an object"},
		{`{"make_default": {"includes": []}}`,
			"make_default.includes: unknown key; known here: exclude, include"},
		{`{"make_default": {"include": "*.db"}}`,
			"make_default.include: is a string, want an array"},
		{`{"make_default": {"include": ["a", 1]}}`,
			"make_default.include[1]: is a number, want a string"},
		{`{"make_default": {"exclude": [""]}}`, "make_default.exclude[0]: \"\": empty"},
		{`{"make_default": {"exclude": ["data/*.db"]}}`, "begin it with / or */"},
		{`{"make_default": {"exclude": ["a[bc"]}}`, "a [ without its ]"},
		{`{"make_default": {"exclude": ["[]"]}}`, "a [ without its ]"},
		{`{"make_default": {"exclude": ["x[^"]}}`, "a [ without its ]"},
		{`{"make_default": {"include": ["~other/x.db"]}}`, "only ~/ is expanded"},
		{"{\"make_default\": {\"include\": [\"a\\u0000b\"]}}", "contains a NUL"},
	} {
		if _, err := vfs.ParseConfig(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error that says %q", c.text, err, c.want)
		}
	}
}
