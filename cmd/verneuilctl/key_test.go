package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore/keyring"
)

// TestKeyFiles: a key file is made for its owner only, and never in the place of another; it is
// changed through links, with the mode that it has, and what fails leaves it as it was, and nothing
// beside it.
func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "keys"), filepath.Join(dir, "link")
	if err := makeKeyFile(path, keyring.Generate(time.Now(), false)); err != nil {
		t.Fatal(err)
	}
	mode := func(want os.FileMode) {
		t.Helper()
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != want {
			t.Errorf("%v, %v; want %v", info, err, want)
		}
	}
	mode(0o600)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	err = makeKeyFile(path, keyring.Generate(time.Now(), false))
	if err == nil || !strings.Contains(err.Error(), "key rotate") {
		t.Errorf("made in the place of another: %v", err)
	}
	same := func() {
		t.Helper()
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, text) {
			t.Errorf("it has changed: %v", err)
		}
	}
	same()
	drop := func(k *keyring.Keys) (*keyring.Keys, error) { return k.Drop(k.Infos()[0].Name) }
	if err := changeKeyFile(path, drop); err == nil {
		t.Error("the only key was dropped")
	}
	same()
	if err := os.Symlink("keys", link); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(*keyring.Keys) (*keyring.Keys, error){
		func(k *keyring.Keys) (*keyring.Keys, error) { return k.Rotate(time.Now()), nil }, drop,
	} {
		if err := changeKeyFile(link, change); err != nil {
			t.Fatal(err)
		}
		mode(0o640)
	}
	keys, _, err := readKeyFile(link)
	if err != nil || len(keys.Infos()) != 1 {
		t.Fatalf("%+v, %v", keys, err)
	}
	was, err := keyring.Parse(text)
	if err != nil || keys.Ring() != was.Ring() || keys.Infos()[0].Name == was.Infos()[0].Name {
		t.Errorf("ring %s, keys %+v; it was %s", keys.Ring(), keys.Infos(), was.Ring())
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestKeysRotatedAtOnce: of several who rotate a key file at once, none loses another's key, with
// which something may have been sealed already.
func TestKeysRotatedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	must(t, "key", "new", path)
	const rotations = 8
	var all sync.WaitGroup
	for range rotations {
		all.Go(func() {
			if r := ctl(t, "key", "rotate", path); r.code != 0 {
				t.Error(r.stderr)
			}
		})
	}
	all.Wait()
	keys, _, err := readKeyFile(path)
	if err != nil || len(keys.Infos()) != 1+rotations {
		t.Errorf("%d keys, want %d: %v", len(keys.Infos()), 1+rotations, err)
	}
}

// TestKeyFileIsFull: no command writes a key file that nobody could read.
func TestKeyFileIsFull(t *testing.T) {
	keys := keyring.Generate(time.Now(), false)
	for len(keys.Rotate(time.Now()).Encode()) <= keyFileMax {
		keys = keys.Rotate(time.Now())
	}
	path := filepath.Join(t.TempDir(), "keys")
	if err := makeKeyFile(path, keys); err != nil {
		t.Fatal(err)
	}
	refuse(t, 1, []string{"too many keys, drop older ones"}, "key", "rotate", path)
	must(t, "key", "drop", "--force", path, keys.Infos()[0].Name)
	must(t, "key", "rotate", path)
}
