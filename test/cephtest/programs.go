package cephtest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Programs is where Ceph's programs and libraries are: below a directory into which its packages
// were unpacked, or where the machine has them (an empty root).
type Programs struct{ root string }

// needed are the programs that a cluster is made of.
var needed = []string{"ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "rados"}

// Find returns where Ceph is: VERNEUIL_CEPH, .tools/ceph of the module, or PATH. The error says how
// to get it.
func Find() (*Programs, error) {
	if root := os.Getenv("VERNEUIL_CEPH"); root != "" {
		p := &Programs{root}
		if err := p.complete(); err != nil {
			return nil, fmt.Errorf("VERNEUIL_CEPH: %w", err)
		}
		return p, nil
	}
	tools, err := toolsOfModule()
	if err != nil {
		return nil, err
	}
	if p := (&Programs{filepath.Join(tools, "ceph")}); p.complete() == nil {
		return p, nil
	}
	p := &Programs{}
	if err := p.complete(); err != nil {
		return nil, fmt.Errorf("no Ceph: %w: `make deps` installs it, of Debian's packages "+
			"ceph-mon, ceph-osd, ceph-common and libsqlite3-mod-ceph", err)
	}
	return p, nil
}

// toolsOfModule returns the directory into which `make deps` unpacks programs.
func toolsOfModule() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil || dir == filepath.Dir(dir) {
			return filepath.Join(dir, ".tools"), nil
		}
	}
}

// Need is [Find] for a test, which is skipped where there is no Ceph. It fails instead in CI, and
// where VERNEUIL_REQUIRE_CEPH is set.
func Need(tb testing.TB) *Programs {
	tb.Helper()
	p, err := Find()
	if err == nil {
		return p
	}
	if os.Getenv("VERNEUIL_CEPH") != "" || os.Getenv("VERNEUIL_REQUIRE_CEPH") != "" ||
		os.Getenv("CI") == "true" {
		tb.Fatal(err)
	}
	tb.Skip(err)
	return nil
}

func (p *Programs) complete() error {
	for _, name := range needed {
		if _, err := exec.LookPath(p.program(name)); err != nil {
			return err
		}
	}
	return nil
}

// program returns what to start for a program of that name.
func (p *Programs) program(name string) string {
	if p.root == "" {
		return name
	}
	return filepath.Join(p.root, "usr", "bin", name)
}

// libraries are the directories of a root's libraries.
func (p *Programs) libraries() (dirs []string) {
	for _, pattern := range []string{"usr/lib/*-linux-gnu", "lib/*-linux-gnu"} {
		found, _ := filepath.Glob(filepath.Join(p.root, pattern)) // the pattern is valid
		dirs = append(dirs, found...)
	}
	return dirs
}

// Library returns the path of a shared library of Ceph's, such as libcephsqlite.so.
func (p *Programs) Library(tb testing.TB, name string) string {
	tb.Helper()
	path := p.library(name)
	if path == "" {
		tb.Fatal(errors.New("no " + name + " below " + cmp.Or(p.root, "/")))
	}
	return path
}

func (p *Programs) library(name string) string {
	root := Programs{cmp.Or(p.root, "/")}
	for _, dir := range root.libraries() {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// Env returns the variables, "NAME=VALUE", that a program needs to find Ceph's libraries.
func (p *Programs) Env() []string { return environ(p) }

// environ is what a program needs that uses those of several roots.
func environ(all ...*Programs) []string {
	var libraries, modules []string
	for _, p := range all {
		if p.root == "" {
			continue
		}
		for _, dir := range p.libraries() {
			libraries = append(libraries, dir, filepath.Join(dir, "ceph"))
		}
		modules = append(modules, filepath.Join(p.root, "usr/lib/python3/dist-packages"))
	}
	if modules == nil {
		return nil
	}
	joined := func(variable string, paths []string) string {
		if old := os.Getenv(variable); old != "" {
			paths = append(paths, old)
		}
		return variable + "=" + strings.Join(paths, ":")
	}
	return []string{joined("LD_LIBRARY_PATH", libraries), joined("PYTHONPATH", modules)}
}

// conf are the lines of ceph.conf by which the daemons find what they load.
func (p *Programs) conf() (lines string) {
	if p.root == "" {
		return ""
	}
	for _, dir := range p.libraries() {
		classes := filepath.Join(dir, "rados-classes")
		if _, err := os.Stat(classes); err == nil {
			lines += "osd_class_dir = " + classes + "\n" +
				"plugin_dir = " + filepath.Join(dir, "ceph") + "\n" +
				"erasure_code_dir = " + filepath.Join(dir, "ceph", "erasure-code") + "\n"
		}
	}
	return lines
}
