package vfs

import (
	"errors"
	"fmt"
	"strings"
)

// Patterns say by their paths which databases the default VFS replicates: those that match a
// pattern of Include (all, if it is empty) and no pattern of Exclude. A copy (by VACUUM INTO, or
// the backup API) is replicated only if Include names it. Patterns are those of SQLite's GLOB: "*"
// stands for any characters, also slashes; "?" for one; "[a-z]" for one of a set. A pattern without
// a slash is matched with the file's name, any other with the whole path, which is absolute and has
// no symbolic links.
type Patterns struct {
	Include, Exclude []string
}

// readMakeDefault accepts a boolean, or an object with patterns.
func (c *Config) readMakeDefault(at string, value any) error {
	members, ok := value.(object)
	if !ok {
		if err := boolean(&c.MakeDefault)(at, value); err != nil {
			return wrongType(at, value, "true, false, or an object with include and exclude")
		}
		return nil
	}
	c.MakeDefault = true
	return readObject(at, members, fields{
		"include": list(pattern(&c.Patterns.Include)),
		"exclude": list(pattern(&c.Patterns.Exclude)),
	})
}

// pattern appends a pattern.
func pattern(dst *[]string) reader {
	return func(at string, value any) error {
		glob, ok := value.(string)
		if !ok {
			return wrongType(at, value, "a string")
		}
		if err := checkGlob(glob); err != nil {
			return fmt.Errorf("%s: %q: %w", at, glob, err)
		}
		glob, err := expandHome(glob)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		*dst = append(*dst, glob)
		return nil
	}
}

// checkGlob refuses a pattern that can match nothing.
func checkGlob(glob string) error {
	switch {
	case glob == "":
		return errors.New("empty")
	case strings.ContainsRune(glob, 0):
		return errors.New("contains a NUL")
	case strings.Contains(glob, "/") && !strings.ContainsAny(glob[:1], "/*?[~"):
		return errors.New("paths are absolute: begin it with / or */, or leave out the directory")
	}
	for rest := glob; ; {
		_, set, found := strings.Cut(rest, "[")
		if !found {
			return nil
		}
		set = strings.TrimPrefix(set, "^")
		if set == "" {
			return errors.New("a [ without its ]")
		}
		_, rest, found = strings.Cut(set[1:], "]") // the first may be one itself
		if !found {
			return errors.New("a [ without its ]")
		}
	}
}
