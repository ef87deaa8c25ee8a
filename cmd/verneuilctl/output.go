package main

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"verneuil/replicate"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// writeWhole writes the file path so that it appears whole or not at all:
// temporary file, fsync, rename, fsync of the directory.
func writeWhole(path string, content []byte) error {
	if err := replicate.Replaceable(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".verneuilctl-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
