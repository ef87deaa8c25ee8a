package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// wheel is a package for pip, as PyPA's "Binary distribution format" has it. It fits every Python
// 3, as it contains no module in C: the extension is SQLite's, not Python's.
func (d *dist) wheel() (string, error) {
	tag := fmt.Sprintf("py3-none-manylinux_%d_%d_%s", d.glibc.major, d.glibc.minor,
		d.platform.wheel)
	t := d.tree("", "lib")
	t.addEmbedded("verneuil/__init__.py", "python/__init__.py")
	t.addEmbedded("verneuil/_ctl.py", "python/_ctl.py")
	d.programs(t, "verneuil/lib", "verneuil/bin")
	info := fmt.Sprintf("%s-%s.dist-info/", name, version)
	t.add(info+"METADATA", 0o644, fmt.Appendf(nil, "Metadata-Version: 2.1\nName: %s\nVersion: %s\n"+
		"Summary: %s\nLicense: %s\nRequires-Python: >=3.8\n"+
		"Description-Content-Type: text/markdown\n\n%s\n\n%s", name, version, summary, license,
		description, pythonUse))
	t.add(info+"WHEEL", 0o644, fmt.Appendf(nil, "Wheel-Version: 1.0\nGenerator: %s\n"+
		"Root-Is-Purelib: false\nTag: %s\n", name, tag))
	t.add(info+"entry_points.txt", 0o644,
		[]byte("[console_scripts]\nverneuilctl = verneuil._ctl:main\n"))
	t.addFile(info+"licenses/LICENSE", 0o644, filepath.Join(d.root, "LICENSE"))
	if t.err != nil {
		return "", t.err
	}
	slices.SortFunc(t.files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	var record strings.Builder
	for _, f := range t.files {
		sum := sha256.Sum256(f.body)
		fmt.Fprintf(&record, "%s,sha256=%s,%d\n", f.name,
			base64.RawURLEncoding.EncodeToString(sum[:]), len(f.body))
	}
	fmt.Fprintf(&record, "%sRECORD,,\n", info)
	t.add(info+"RECORD", 0o644, []byte(record.String()))
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range t.files {
		header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: d.date}
		header.SetMode(f.mode)
		to, err := w.CreateHeader(header)
		if err == nil {
			_, err = to.Write(f.body)
		}
		if err != nil {
			return "", err
		}
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return d.put(fmt.Sprintf("%s-%s-%s.whl", name, version, tag), b.Bytes())
}

// pythonUse is the page that pip's index shows.
const pythonUse = "```python\nimport verneuil\n\n" +
	"db = verneuil.connect(\"app.db\")  # as sqlite3.connect\n```\n\n" +
	"`VERNEUIL_CONFIG` in the environment names the targets. `verneuil.load(connection)` loads " +
	"the extension\nfor a framework that opens its connections by itself, and " +
	"`verneuil.loadable_path()` is its path. The\nscript `verneuilctl` restores.\n"
