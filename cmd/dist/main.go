package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// dist is one run.
type dist struct {
	root, build, out string // the checkout, what make has built, where packages go
	date             time.Time
	platform         platform
	glibc            glibc
}

func main() {
	var d dist
	flag.StringVar(&d.root, "root", ".", "the checkout")
	flag.StringVar(&d.build, "build", "build", "the library, the tool, its pages and completions")
	flag.StringVar(&d.out, "out", "build/dist", "where the packages go")
	flag.Parse()
	if err := d.run(); err != nil {
		fmt.Fprintf(os.Stderr, "dist: %v\n", err)
		os.Exit(1)
	}
}

func (d *dist) run() (err error) {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH, the packages' time: %w", err)
	}
	d.date = time.Unix(seconds, 0).UTC()
	d.platform, d.glibc, err = runsOn(d.library(), d.tool(),
		filepath.Join(d.build, libraries[0]), filepath.Join(d.build, libraries[1]))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.out, 0o755); err != nil {
		return err
	}
	for _, make := range []func() (string, error){d.tarball, d.wheel, d.npm, d.deb, d.container} {
		made, err := make()
		if err != nil {
			return err
		}
		fmt.Println(filepath.Join(d.out, made))
	}
	return nil
}

func (d *dist) library() string { return filepath.Join(d.build, "libverneuil_vfs.so") }
func (d *dist) tool() string    { return filepath.Join(d.build, "verneuilctl") }

// tree returns an empty tree whose embedded files are filled in for what lies below prefix, with
// libraries in lib. An empty prefix stays @PREFIX@.
func (d *dist) tree(prefix, lib string) *tree {
	if prefix == "" {
		prefix = "@PREFIX@"
	}
	return &tree{fill: strings.NewReplacer("@VERSION@", version, "@SUMMARY@", summary,
		"@LICENSE@", license, "@MAINTAINER@", maintainer, "@PREFIX@", prefix, "@LIB@", lib,
		"@NODE_CPU@", d.platform.node)}
}

// libraries are those beside the library itself, in plain C: the recorder alone, and what
// LD_PRELOAD takes.
var libraries = []string{"libverneuil_recorder.so", "libverneuil_preload.so"}

// programs adds what every package has: the libraries and the tool.
func (d *dist) programs(t *tree, lib, bin string) {
	t.addFile(lib+"/libverneuil_vfs.so", 0o644, d.library())
	for _, name := range libraries {
		t.addFile(lib+"/"+name, 0o644, filepath.Join(d.build, name))
	}
	t.addFile(bin+"/verneuilctl", 0o755, d.tool())
}

// linking adds what a program in C links the library with.
func linking(t *tree, lib string) {
	t.addEmbedded("include/verneuil_vfs.h", "c/verneuil_vfs.h")
	t.addEmbedded(lib+"/pkgconfig/verneuil_vfs.pc", "c/verneuil_vfs.pc")
}

// tarball is for any Linux: what is built, and a Makefile that installs it.
func (d *dist) tarball() (string, error) {
	t := d.tree("", "lib")
	d.programs(t, "lib", "bin")
	linking(t, "lib")
	t.addMatches("share/man/man1", filepath.Join(d.build, "man/*.1"))
	for shell, to := range completions {
		t.addFile("share/"+to, 0o644, filepath.Join(d.build, "completions", shell))
	}
	t.addMatches("share/doc/verneuil", filepath.Join(d.root, "docs/*.md"))
	all := &tree{files: t.below("tree"), fill: t.fill, err: t.err}
	all.addEmbedded("Makefile", "Makefile")
	for _, page := range []string{"README.md", "LICENSE", "CHANGELOG.md"} {
		all.addFile(page, 0o644, filepath.Join(d.root, page))
	}
	if all.err != nil {
		return "", all.err
	}
	dir := fmt.Sprintf("%s-%s-linux-%s", name, version, d.platform.goarch)
	packed, err := tarGz(all.below(dir), d.date)
	if err != nil {
		return "", err
	}
	return d.put(dir+".tar.gz", packed)
}

// completions are where the shells look, below share of a prefix.
var completions = map[string]string{
	"bash": "bash-completion/completions/verneuilctl",
	"zsh":  "zsh/site-functions/_verneuilctl",
	"fish": "fish/vendor_completions.d/verneuilctl.fish",
}

// container puts the recipe, which installs the Debian package, beside that.
func (d *dist) container() (string, error) {
	recipe, err := embedded.ReadFile("files/container/Containerfile")
	if err != nil {
		return "", err
	}
	return d.put("Containerfile", recipe)
}

// put writes one package.
func (d *dist) put(file string, body []byte) (string, error) {
	return file, os.WriteFile(filepath.Join(d.out, file), body, 0o644)
}
