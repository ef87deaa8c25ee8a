package dist

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// musl returns the place for a test of what make musl has built, and the directory of that, which
// VERNEUIL_MUSL names.
func musl(t *testing.T) (p *place, built string) {
	t.Helper()
	built = os.Getenv("VERNEUIL_MUSL")
	if built == "" {
		t.Skip("VERNEUIL_MUSL is not set: make musl sets it")
	}
	return newPlace(t, true), built
}

// TestMusl: a program that is linked with musl loads the recorder that is, writes, and the static
// tool sends what it has recorded, and restores it. The library for glibc is refused by musl's
// loader, in the words that docs/hosts.md has.
func TestMusl(t *testing.T) {
	p, built := musl(t)
	headers, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/mattn/go-sqlite3").Output()
	if err != nil {
		t.Fatal(err)
	}
	p.write("app.c", strings.Replace(loads, "verneuil_flush", "verneuil_replicated", 1))
	p.run("musl-gcc", "-O0", "-w", "-I"+strings.TrimSpace(string(headers)), "app.c", "-o", "app",
		"-lpthread", "-lm")
	p.says("7\n1\n", p.path("app"), filepath.Join(built, "libverneuil_recorder.so"))
	tool := filepath.Join(built, "verneuilctl")
	if out, err := p.try("ldd", tool); err == nil {
		t.Errorf("the tool is not static: %s", out)
	}
	p.run(tool, "flush", "spool")
	p.restores(tool, "7\n")
	// SQLite tries the name with ".so" behind it, too, and says what came of that.
	out, err := p.try(p.path("app"), strings.TrimSuffix(os.Getenv("VERNEUIL_LIB"), ".so"))
	said := "Error loading shared library ld-linux-x86-64.so.2: No such file or directory"
	if err == nil || !strings.Contains(out, said) ||
		!strings.Contains(read(t, "../../docs/hosts.md"), said) {
		t.Errorf("musl loads the library for glibc: %v: %s", err, out)
	}
}

// TestMuslBun: so does Bun, a JavaScript runtime with a SQLite of its own, while verneuilctl run
// replicates. VERNEUIL_MUSL_BUN is where make deps has put a Bun that is linked with musl.
func TestMuslBun(t *testing.T) {
	p, built := musl(t)
	bun := os.Getenv("VERNEUIL_MUSL_BUN")
	if _, err := os.Stat(filepath.Join(bun, "bun")); err != nil {
		t.Skip("no Bun for musl (make deps says why)")
	}
	// What the C++ library that was found for musl is too old to have. It is called where something
	// is wrong anyway.
	p.write("shim.c", `#include <stdlib.h>
void _ZSt28__throw_bad_array_new_lengthv(void) { abort(); }
void _ZSt21__glibcxx_assert_failPKciS0_S0_(void) { abort(); }
`)
	p.run("musl-gcc", "-shared", "-fPIC", "shim.c", "-o", "shim.so")
	p.write("app.js", `import { Database } from "bun:sqlite";
new Database(":memory:").loadExtension(process.argv[2]);
const db = new Database("app.db");
db.run("create table t(x)");
db.run("insert into t values(7)");
console.log(db.query("select verneuil_replicated() as r").get().r);
db.query("pragma verneuil_flush_replication_data").get();
console.log("safe");
`)
	tool := filepath.Join(built, "verneuilctl")
	run := exec.CommandContext(t.Context(), tool, "run")
	run.Dir, run.Env = p.dir, p.env
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = run.Process.Kill(); _ = run.Wait() }()
	ours := p.env
	p.env = append(ours[:len(ours):len(ours)], "LD_LIBRARY_PATH="+bun, "LD_PRELOAD="+
		p.path("shim.so"))
	p.says("1\nsafe\n", filepath.Join(bun, "bun"), "app.js",
		filepath.Join(built, "libverneuil_recorder.so"))
	p.env = ours
	p.restores(tool, "7\n")
}
