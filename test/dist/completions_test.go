package dist

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCompletions: each shell takes the file that verneuilctl writes for it, and completes by it.
func TestCompletions(t *testing.T) {
	tool := os.Getenv("VERNEUIL_CTL")
	if tool == "" {
		t.Skip("VERNEUIL_CTL is not set: make test sets it")
	}
	for _, shell := range []struct{ name, asks, says string }{
		{"bash", "source ./_verneuilctl; complete -p verneuilctl", "-F __start_verneuilctl"},
		{"zsh", "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; " +
			"autoload +X _verneuilctl; print $_comps[verneuilctl]", "_verneuilctl\n"},
		{"fish", "source ./_verneuilctl; complete -C 'verneuilctl res'", "restore\t"},
	} {
		t.Run(shell.name, func(t *testing.T) {
			needs(t, shell.name)
			p := newPlace(t, false)
			p.env = append(p.env, "PATH="+filepath.Dir(tool)+":"+os.Getenv("PATH"))
			p.write("_verneuilctl", p.run(tool, "completion", shell.name))
			if out := p.run(shell.name, "-c", shell.asks); !strings.Contains(out, shell.says) {
				t.Errorf("it completes by %q", out)
			}
		})
	}
}

// TestManualPages: groff has nothing to say about them.
func TestManualPages(t *testing.T) {
	tool := os.Getenv("VERNEUIL_CTL")
	if tool == "" {
		t.Skip("VERNEUIL_CTL is not set: make test sets it")
	}
	needs(t, "groff")
	p := newPlace(t, false)
	p.run("mkdir", "man")
	p.run(tool, "man", "man")
	pages, err := filepath.Glob(p.path("man/*.1"))
	if err != nil || len(pages) < 20 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	p.says("", append([]string{"groff", "-man", "-Tutf8", "-ww", "-z"}, pages...)...)
}
