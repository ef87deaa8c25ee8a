package dist

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// emulated is how a program for arm64 is run.
var emulated = []string{"qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"}

// TestArm64: the library and the tool for arm64, under qemu: a program in C writes and flushes, the
// tool restores. VERNEUIL_ARM64 is where make arm64 has built them.
func TestArm64(t *testing.T) {
	built := os.Getenv("VERNEUIL_ARM64")
	if built == "" {
		t.Skip("VERNEUIL_ARM64 is not set: make arm64 sets it")
	}
	p := newPlace(t, true)
	headers, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/mattn/go-sqlite3").Output()
	if err != nil {
		t.Fatal(err)
	}
	sqlite := strings.TrimSpace(string(headers))
	p.write("sqlite3.h", "#include <"+sqlite+"/sqlite3-binding.h>\n")
	p.write("app.c", loads)
	p.run("aarch64-linux-gnu-gcc", "-O0", "-w", "-I"+sqlite, "-I"+p.dir,
		"app.c", "-o", "app", "-ldl", "-lpthread", "-lm")
	p.says("7\n1\n", append(emulated[:3:3], p.path("app"),
		filepath.Join(built, "libverneuil_vfs.so"))...)
	tool := func(args ...string) string {
		argv := append(emulated[:3:3], filepath.Join(built, "verneuilctl"))
		return p.run(append(argv, args...)...)
	}
	tool("restore", "app.db", "--out", "restored.db")
	p.says("7\n", "sqlite3", "restored.db", "select x from t")
	if out := tool("version"); !strings.Contains(out, "linux/arm64") {
		t.Errorf("it is for %s", out)
	}
	// What one processor has written, the other one reads.
	p.run(os.Getenv("VERNEUIL_CTL"), "verify", "app.db", "--read")
	p.says("7\n", os.Getenv("VERNEUIL_CTL"), "shell", "app.db", "--", "select x from t")
}

// TestArm64Shell: so does Debian's sqlite3 shell for arm64, which has a SQLite of its own, and the
// tool restores. VERNEUIL_ARM64_SHELL is where make deps has unpacked it.
func TestArm64Shell(t *testing.T) {
	built, shell := os.Getenv("VERNEUIL_ARM64"), os.Getenv("VERNEUIL_ARM64_SHELL")
	if built == "" {
		t.Skip("VERNEUIL_ARM64 is not set: make arm64 sets it")
	}
	if _, err := os.Stat(shell + "/usr/bin/sqlite3"); err != nil {
		t.Skip("no sqlite3 shell for arm64 (make deps says why)")
	}
	p := newPlace(t, true)
	libraries := shell + "/usr/lib/aarch64-linux-gnu:" + shell + "/lib/aarch64-linux-gnu"
	p.says("1\n", append(emulated[:3:3], "-E", "LD_LIBRARY_PATH="+libraries,
		shell+"/usr/bin/sqlite3", ":memory:", ".load "+filepath.Join(built, "libverneuil_vfs"),
		".open app.db", "create table t(x)",
		"insert into t values(7)", "select verneuil_flush()")...)
	if err := os.Rename(p.path("app.db"), p.path("gone.db")); err != nil {
		t.Fatal(err)
	}
	p.run(append(emulated[:3:3], filepath.Join(built, "verneuilctl"), "restore", "app.db",
		"--out", "restored.db")...)
	p.says("7\n", "sqlite3", "restored.db", "select x from t")
}

// loads has SQLite in it, and loads the library that it is given.
const loads = `#include "sqlite3-binding.c"
#include <stdio.h>
static int print(void *p, int n, char **values, char **names) { return puts(values[0]) < 0; }
int main(int argc, char **argv) {
  sqlite3 *first, *db;
  char *error = 0;
  if (sqlite3_open(":memory:", &first)) return 1;
  sqlite3_enable_load_extension(first, 1);
  if (sqlite3_load_extension(first, argv[1], 0, &error)) return puts(error), 2;
  if (sqlite3_open("app.db", &db)) return 3;
  if (sqlite3_exec(db, "create table t(x); insert into t values(7); select x from t;"
                       "select verneuil_flush()", print, 0, &error)) return puts(error), 4;
  return sqlite3_close(db) || sqlite3_close(first);
}
`
