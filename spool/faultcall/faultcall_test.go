package faultcall_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"verneuil/spool/faultcall"
)

// run runs a shell script, and returns what it wrote and how it ended.
func run(t *testing.T, script string,
	decide func(faultcall.Call) faultcall.Verdict) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := faultcall.Start(cmd, decide)
	if err != nil {
		t.Fatal(err)
	}
	err = p.Wait()
	if p.Missed() {
		t.Error("it was alive, and was missed")
	}
	return out.String(), err
}

// TestVerdicts: the program sees what a verdict says, and what passes works as ever.
func TestVerdicts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	script := "echo twenty bytes of text > " + file
	for _, test := range []struct {
		name         string
		verdict      faultcall.Verdict
		output, want string
		killed       bool
	}{
		{"pass", faultcall.Verdict{}, "", "twenty bytes of text\n", false},
		{"fail", faultcall.Verdict{Err: syscall.ENOSPC}, "echo:", "", false},
		{"short", faultcall.Verdict{Short: true}, "", "twenty byt", false},
		{"kill", faultcall.Verdict{Kill: true}, "", "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var seen []string
			fired := false
			output, err := run(t, script, func(c faultcall.Call) faultcall.Verdict {
				if c.Path != file {
					return faultcall.Verdict{}
				}
				seen = append(seen, c.Name)
				if c.Name != "write" || fired {
					return faultcall.Verdict{}
				}
				fired = true
				return test.verdict
			})
			content, readErr := os.ReadFile(file)
			if readErr != nil {
				t.Fatal(readErr)
			}
			killed := err != nil && strings.Contains(err.Error(), "killed")
			// after a short write the shell writes the rest, or says that it is short
			if !strings.Contains(output, test.output) ||
				!strings.HasPrefix(string(content), test.want) || killed != test.killed {
				t.Errorf("%q, %q, %v; calls %v", output, content, err, seen)
			}
			if len(seen) < 2 || seen[0] != "openat" {
				t.Errorf("calls %v", seen)
			}
		})
	}
}
