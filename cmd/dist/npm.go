package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
)

// npm is a package for Node. npm refuses it on another processor, or another C library.
func (d *dist) npm() (string, error) {
	manifest, err := json.MarshalIndent(map[string]any{
		"name": name, "version": version, "description": summary, "license": license,
		"main": "index.js", "types": "index.d.ts",
		"bin":              map[string]string{"verneuilctl": "bin/verneuilctl"},
		"os":               []string{"linux"},
		"cpu":              []string{d.platform.node},
		"libc":             []string{"glibc"},
		"engines":          map[string]string{"node": ">=18"},
		"peerDependencies": map[string]string{"better-sqlite3": ">=9"},
		"peerDependenciesMeta": map[string]any{
			"better-sqlite3": map[string]bool{"optional": true}}, // node:sqlite does, too
	}, "", "  ")
	if err != nil {
		return "", err
	}
	t := d.tree("", "lib")
	t.add("package.json", 0o644, append(manifest, '\n'))
	t.add("README.md", 0o644, fmt.Appendf(nil, "# %s\n\n%s\n\n%s", name, description, nodeUse))
	t.addEmbedded("index.js", "node/index.js")
	t.addEmbedded("index.d.ts", "node/index.d.ts")
	t.addFile("LICENSE", 0o644, filepath.Join(d.root, "LICENSE"))
	d.programs(t, "lib", "bin")
	if t.err != nil {
		return "", t.err
	}
	packed, err := tarGz(t.below("package"), d.date)
	if err != nil {
		return "", err
	}
	return d.put(fmt.Sprintf("%s-%s-linux-%s.tgz", name, version, d.platform.node), packed)
}

// nodeUse is the page that npm's index shows.
const nodeUse = "```js\nconst verneuil = require(\"verneuil\");\n\n" +
	"const db = verneuil.connect(\"app.db\"); // a Database of better-sqlite3\n```\n\n" +
	"`VERNEUIL_CONFIG` in the environment names the targets; with better-sqlite3 it has to set\n" +
	"`make_default`. `{ driver: DatabaseSync }` as second argument opens with node:sqlite.\n" +
	"`verneuil.load(db)` loads the extension for a library that opens its databases by itself,\n" +
	"and `verneuil.assertReplicated(db)` throws unless such a database is replicated. The\n" +
	"program `verneuilctl` restores.\n"
