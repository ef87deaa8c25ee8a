package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"embed"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed all:files
var embedded embed.FS

// file is one of a package.
type file struct {
	name string // without a slash at its beginning
	mode fs.FileMode
	body []byte
}

// tree is what a package installs. Its methods add files; the first error stays.
type tree struct {
	files []file
	fill  *strings.Replacer // of @NAMES@ in embedded files
	err   error
}

func (t *tree) add(name string, mode fs.FileMode, body []byte) {
	t.files = append(t.files, file{name, mode, body})
}

// addFile adds a file of this machine.
func (t *tree) addFile(name string, mode fs.FileMode, from string) {
	body, err := os.ReadFile(from)
	if err != nil && t.err == nil {
		t.err = err
	}
	t.add(name, mode, body)
}

// addEmbedded adds one of files/, filled in.
func (t *tree) addEmbedded(name, from string) {
	body, err := embedded.ReadFile("files/" + from)
	if err != nil && t.err == nil {
		t.err = err
	}
	t.add(name, 0o644, []byte(t.fill.Replace(string(body))))
}

// addMatches adds the files that a pattern names to a directory.
func (t *tree) addMatches(dir, pattern string) {
	names, err := filepath.Glob(pattern)
	if err == nil && len(names) == 0 {
		err = &fs.PathError{Op: "match", Path: pattern, Err: fs.ErrNotExist}
	}
	if err != nil && t.err == nil {
		t.err = err
	}
	for _, from := range names {
		t.addFile(dir+"/"+filepath.Base(from), 0o644, from)
	}
}

// below returns the files with dir before their names.
func (t *tree) below(dir string) []file {
	moved := slices.Clone(t.files)
	for i := range moved {
		moved[i].name = dir + "/" + moved[i].name
	}
	return moved
}

// tarGz packs files, and the directories above them, in the order of their names.
func tarGz(files []file, date time.Time) ([]byte, error) {
	var b bytes.Buffer
	zipped := newGzip(&b)
	w := tar.NewWriter(zipped)
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	for _, f := range files {
		kind := byte(tar.TypeReg)
		if strings.HasSuffix(f.name, "/") {
			kind = tar.TypeDir
		}
		err := w.WriteHeader(&tar.Header{Typeflag: kind, Name: f.name,
			Mode: int64(f.mode.Perm()), Size: int64(len(f.body)), ModTime: date})
		if err == nil {
			_, err = w.Write(f.body)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	err := zipped.Close()
	return b.Bytes(), err
}

// gzipped compresses a file as Debian wants documents: as well as it can, without name and time.
func gzipped(body []byte) []byte {
	var b bytes.Buffer
	w := newGzip(&b)
	if _, err := w.Write(body); err != nil {
		panic(err) // a Buffer takes everything
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func newGzip(to io.Writer) *gzip.Writer {
	w, err := gzip.NewWriterLevel(to, gzip.BestCompression)
	if err != nil {
		panic(err) // there is this level
	}
	return w
}
