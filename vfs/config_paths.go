package vfs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// base is the directory of the configuration's file, to which its relative directories are
// relative. It is empty if there is no file. Then relative directories are refused, as they would
// mean another place in a process with another working directory. For the same reason, environment
// variables are refused, not expanded. "~/" is the home directory of the process's user.
type base string

// variable is what a shell would expand.
var variable = regexp.MustCompile(`\$(\{|\(|[A-Za-z_])`)

// directory accepts a path and makes it absolute.
func (b base) directory(dst *string) reader {
	return func(at string, value any) error {
		var path string
		if err := text(&path)(at, value); err != nil || value == nil {
			return err
		}
		switch {
		case path == "":
			return fmt.Errorf("%s: empty", at)
		case strings.ContainsRune(path, 0):
			return fmt.Errorf("%s: %q contains a NUL", at, path)
		case strings.Contains(path, "://"):
			return fmt.Errorf("%s: %q is a URL: want a directory", at, path)
		case variable.MatchString(path):
			return fmt.Errorf("%s: %q: variables are not expanded: "+
				"write out the path, or begin it with ~/", at, path)
		}
		path, err := expandHome(path)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if !filepath.IsAbs(path) {
			if b == "" {
				return fmt.Errorf("%s: %q is relative, and there is no configuration file "+
					"that it could be relative to: begin it with / or ~/", at, path)
			}
			path = filepath.Join(string(b), path)
		}
		*dst = filepath.Clean(path)
		return nil
	}
}

// command accepts a program and its arguments, and makes its path absolute.
func (b base) command(dst *[]string) reader {
	return func(at string, value any) error {
		var args []string
		err := list(func(at string, value any) error {
			var arg string
			read := text(&arg)
			if len(args) == 0 {
				read = b.directory(&arg)
			}
			if err := read(at, value); err != nil {
				return err
			}
			args = append(args, arg)
			return nil
		})(at, value)
		if err == nil && value != nil && len(args) == 0 {
			err = fmt.Errorf("%s: empty: want a program, and its arguments", at)
		}
		*dst = args
		return err
	}
}

// expandHome replaces a "~" that stands for the user's home directory.
func expandHome(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok {
		return path, nil
	}
	if rest != "" && rest[0] != '/' {
		return "", fmt.Errorf("%q: only ~/ is expanded: write out another user's directory, "+
			"or put ./ before a name that begins with ~", path)
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return "", fmt.Errorf("%q: HOME names no directory: write out the path", path)
	}
	return home + rest, nil
}
