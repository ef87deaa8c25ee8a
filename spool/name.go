package spool

import (
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
)

// nameBytesMax bounds the readable part of a spool's name; the hash after it distinguishes names
// with the same end.
const nameBytesMax = 100

// Name returns the name of the spool's directory for the database at dbPath, a
// canonical absolute path: its bytes other than A-Z, a-z, 0-9, '.', '_' and '-' as
// %XX, the last 100 bytes of that, '-', and the FNV-1a-64 of the path in hex.
// spoolDirOf in cgo does the same.
func Name(dbPath string) string {
	const hex = "0123456789ABCDEF"
	h := fnv.New64a()
	h.Write([]byte(dbPath))
	name := make([]byte, 0, 3*len(dbPath))
	for _, c := range []byte(dbPath) {
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' &&
			c <= 'z', c == '.', c == '_', c == '-':
			name = append(name, c)
		default:
			name = append(name, '%', hex[c>>4], hex[c&15])
		}
	}
	if len(name) > nameBytesMax {
		name = name[len(name)-nameBytesMax:]
	}
	return fmt.Sprintf("%s-%016x", name, h.Sum64())
}

// Dir returns the spool's directory for the database at dbPath under root, the
// replication_spooling_dir.
func Dir(root, dbPath string) string { return filepath.Join(root, Name(dbPath)) }

// List returns the directories of the spools in root, a spooling directory, by name.
func List(root string) (dirs []string, err error) {
	entries, err := os.ReadDir(root)
	for _, e := range entries {
		dir := filepath.Join(root, e.Name())
		if _, err := os.Lstat(filepath.Join(dir, "state")); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs, err
}
