package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestMan: each command has a page, which names its flags; two runs write the same, and what
// formats pages finds nothing wrong with them.
func TestMan(t *testing.T) {
	dir, again := t.TempDir(), t.TempDir()
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	must(t, "man", dir)
	must(t, "man", again)
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if !c.IsAvailableCommand() && c.HasParent() {
			return
		}
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
		page, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			return
		}
		if twin, err := os.ReadFile(filepath.Join(again, name)); err != nil ||
			string(twin) != string(page) {
			t.Errorf("%s: a second run writes another, %v", name, err)
		}
		if !strings.Contains(string(page), `"Nov 2023"`) {
			t.Errorf("%s: not of SOURCE_DATE_EPOCH: %.200s", name, page)
		}
		text := strings.ReplaceAll(string(page), `\-`, "-")
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(text, "--"+f.Name) {
				t.Errorf("%s does not have --%s", name, f.Name)
			}
		})
		if roff, err := exec.LookPath("groff"); err == nil {
			out, err := exec.Command(roff, "-man", "-Tutf8", "-wall", "-z",
				filepath.Join(dir, name)).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("groff %s: %v: %s", name, err, out)
			}
		}
		for _, below := range c.Commands() {
			visit(below)
		}
	}
	visit(rootCommand())
	refuse(t, 2, []string{"which directory?"}, "man")
	refuse(t, 1, []string{"no such file"}, "man", filepath.Join(dir, "none"))
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	refuse(t, 1, []string{"SOURCE_DATE_EPOCH", "yesterday"}, "man", dir)
}

// TestCommandsPage: the page of the site has every command, and its flags.
func TestCommandsPage(t *testing.T) {
	page := must(t, "man", "--markdown")
	for _, want := range []string{"\n## verneuilctl restore\n", "\n## verneuilctl lock break\n",
		"Usage: verneuilctl restore ", "--version-id string"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in %s", want, page)
		}
	}
	if help := must(t, "restore", "--help"); !strings.Contains(help, "\n  -o, --out string") {
		t.Errorf("--help has no flags: %s", help)
	}
	for _, text := range []string{page, must(t, "restore", "--help")} {
		for line := range strings.Lines(text) {
			if len(line) > len("\n")+99 {
				t.Errorf("%d columns: %s", len(line), line)
			}
		}
	}
}
