package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// canonicalPath is what SQLite's unix VFS makes of a database's path
// (unixFullPathname): absolute, with symbolic links resolved as far as the path
// exists. Manifests and spools are named after it.
func canonicalPath(path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	missing := ""
	for existing := absolute; ; existing = filepath.Dir(existing) {
		resolved, err := filepath.EvalSymlinks(existing)
		if err == nil {
			return filepath.Join(resolved, missing), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || existing == filepath.Dir(existing) {
			return "", err
		}
		missing = filepath.Join(filepath.Base(existing), missing)
	}
}

// schemeOf returns what stands before "://", if that looks like a scheme.
func schemeOf(uri string) string {
	for i := range len(uri) {
		switch c := uri[i]; {
		case 'a' <= c && c <= 'z', i > 0 && '0' <= c && c <= '9':
		case c == ':' && i > 0 && len(uri) >= i+3 && uri[i:i+3] == "://":
			return uri[:i]
		default:
			return ""
		}
	}
	return ""
}

// sourceName returns the host and the canonical path that name a manifest.
func sourceName(host, path, localHost string) (string, string, error) {
	if host == "" {
		host = localHost
	}
	if host == localHost {
		canonical, err := canonicalPath(path)
		return host, canonical, err
	}
	if !filepath.IsAbs(path) {
		return "", "", fmt.Errorf("source path %s: on another host, a path must be absolute", path)
	}
	return host, path, nil
}

// onePath returns the path that a command was given as its argument or by --source-path.
func onePath(flag string, args []string) (string, error) {
	switch {
	case len(args) > 0 && flag != "":
		return "", fmt.Errorf("%s and --source-path both name the database: give one", args[0])
	case len(args) > 0:
		return args[0], nil
	case flag == "":
		return "", errors.New("which database? give its path")
	}
	return flag, nil
}

// sqliteURI returns the URI by which SQLite opens name through the VFS called
// vfsName. SQLite decodes percent signs in the whole of it, and takes ? and # as
// the ends of the name.
func sqliteURI(name, vfsName string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.WriteString("file:")
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c &&
			c <= '9', strings.IndexByte("-._~/:@+,=", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	b.WriteString("?vfs=" + vfsName)
	return b.String()
}

// shellQuote returns arg as one argument of a dot-command of the sqlite3 shell:
// in double quotes, where the shell knows C's escapes.
func shellQuote(arg string) string {
	const digits = "01234567"
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(arg) {
		switch c := arg[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			b.WriteByte('\\')
			b.WriteByte(digits[c>>6])
			b.WriteByte(digits[c>>3&7])
			b.WriteByte(digits[c&7])
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
