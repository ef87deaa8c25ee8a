package dist

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMusl: a program that is linked with musl loads the recorder that is, writes, and the static
// tool sends what it has recorded, and restores it. The library for glibc is refused by musl's
// loader. VERNEUIL_MUSL is where make musl has built them.
func TestMusl(t *testing.T) {
	built := os.Getenv("VERNEUIL_MUSL")
	if built == "" {
		t.Skip("VERNEUIL_MUSL is not set: make musl sets it")
	}
	p := newPlace(t, true)
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
	out, err := p.try(p.path("app"), os.Getenv("VERNEUIL_LIB"))
	if err == nil || !strings.Contains(out, "rror") {
		t.Errorf("musl loads the library for glibc: %v: %s", err, out)
	}
}
