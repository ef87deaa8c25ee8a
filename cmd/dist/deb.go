package main

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// deb is a Debian package: deb(5), and the policy of Debian where it says what lies where.
func (d *dist) deb() (string, error) {
	lib := "lib/" + d.platform.triplet
	t := d.tree("/usr", lib)
	d.programs(t, lib, "bin")
	linking(t, lib)
	pages := &tree{}
	pages.addMatches("share/man/man1", filepath.Join(d.build, "man/*.1"))
	pages.addMatches("share/doc/verneuil/docs", filepath.Join(d.root, "docs/*.md"))
	pages.addFile("share/doc/verneuil/README.md", 0o644, filepath.Join(d.root, "README.md"))
	t.err = firstError(t.err, pages.err)
	for _, f := range pages.files {
		if strings.HasPrefix(f.name, "share/man/") {
			f.name, f.body = f.name+".gz", gzipped(f.body)
		}
		t.files = append(t.files, f)
	}
	for shell, to := range completions {
		to = strings.Replace(to, "site-functions", "vendor-completions", 1) // zsh's, in Debian
		t.addFile("share/"+to, 0o644, filepath.Join(d.build, "completions", shell))
	}
	t.addMatches("share/doc/verneuil/examples", filepath.Join(d.root, "examples/systemd/*verify*"))
	unit := &tree{}
	unit.addFile("", 0, filepath.Join(d.root, "examples/systemd/verneuil-run.service"))
	t.addMatches("share/doc/verneuil/examples", filepath.Join(d.root, "examples/c/*"))
	t.addMatches("share/doc/verneuil/examples", filepath.Join(d.root, "examples/python/*"))
	t.addEmbedded("share/lintian/overrides/verneuil", "debian/overrides")
	legal := &tree{}
	legal.addFile("", 0, filepath.Join(d.root, "LICENSE"))
	if t.err = firstError(firstError(t.err, legal.err), unit.err); t.err != nil {
		return "", t.err
	}
	t.add("share/doc/verneuil/copyright", 0o644, copyright(string(legal.files[0].body)))
	t.add("share/doc/verneuil/changelog.gz", 0o644, gzipped(fmt.Appendf(nil,
		"%s (%s) unstable; urgency=medium\n\n  * See docs/ and README.md of this directory.\n\n"+
			" -- %s  %s\n", name, version, maintainer, d.date.Format(time.RFC1123Z))))

	all := &tree{files: t.below("usr")}
	all.add("lib/systemd/system/verneuil-run.service", 0o644,
		bytes.ReplaceAll(unit.files[0].body, []byte("/usr/local/bin/"), []byte("/usr/bin/")))
	sum := sums(all.files)
	files := withDirectories(all.files)
	control, err := tarGz([]file{{"./control", 0o644, d.control(t)},
		{"./md5sums", 0o644, sum}}, d.date)
	if err != nil {
		return "", err
	}
	content, err := tarGz(files, d.date)
	if err != nil {
		return "", err
	}
	return d.put(fmt.Sprintf("%s_%s_%s.deb", name, version, d.platform.debian),
		d.archive([]file{{"debian-binary", 0o644, []byte("2.0\n")},
			{"control.tar.gz", 0o644, control}, {"data.tar.gz", 0o644, content}}))
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (d *dist) control(t *tree) []byte {
	n := 0
	for _, f := range t.files {
		n += (len(f.body) + 1023) / 1024
	}
	return fmt.Appendf(nil, "Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: %s\n"+
		"Installed-Size: %d\nDepends: libc6 (>= %d.%d)\nRecommends: ca-certificates\n"+
		"Suggests: sqlite3, libsqlite3-dev\nSection: database\nPriority: optional\n"+
		"Description: %s\n %s\n", name, version, d.platform.debian, maintainer, n, d.glibc.major,
		d.glibc.minor, summary,
		strings.NewReplacer("\n\n", "\n .\n ", "\n", "\n ").Replace(description))
}

// copyright is machine-readable, in the format 1.0.
func copyright(text string) []byte {
	holder := "the authors of Verneuil in Go"
	for line := range strings.Lines(text) {
		if after, ok := strings.CutPrefix(line, "Copyright"); ok {
			holder = strings.TrimSpace(after)
		}
	}
	body := " " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n ")
	return []byte("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n" +
		"Files: *\nCopyright: " + holder + "\nLicense: Expat\n" +
		strings.ReplaceAll(body, "\n \n", "\n .\n") + "\n")
}

func sums(files []file) []byte {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "%x  %s\n", md5.Sum(f.body), f.name)
	}
	return []byte(b.String())
}

// withDirectories gives the files the names that dpkg wants, and adds the directories above them.
func withDirectories(files []file) []file {
	dirs := map[string]bool{}
	for i, f := range files {
		files[i].name = "./" + f.name
		for dir := filepath.Dir(f.name); dir != "."; dir = filepath.Dir(dir) {
			dirs["./"+dir+"/"] = true
		}
	}
	for dir := range dirs {
		files = append(files, file{dir, 0o755, nil})
	}
	return append(files, file{"./", 0o755, nil})
}

// archive is ar's, of members with short names.
func (d *dist) archive(members []file) []byte {
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range members {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, d.date.Unix(), 0, 0,
			0o100000|m.mode, len(m.body))
		b.Write(m.body)
		if b.Len()%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return slices.Clip(b.Bytes())
}
