package cgo_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDescriptors: a process that has opened many databases has no descriptor of them
// left, nor of their spools, once they are closed and sent.
func TestDescriptors(t *testing.T) {
	for _, journal := range []string{"delete", "wal"} {
		t.Run(journal, func(t *testing.T) {
			dir := t.TempDir()
			for i := range 20 {
				path := filepath.Join(dir, fmt.Sprintf("many-%s-%d.db", journal, i))
				c, c2 := open(t, path, ""), open(t, path, "")
				query(t, c, "pragma journal_mode="+journal)
				mustExec(t, c, "create table t(a)")
				mustExec(t, c2, "insert into t values(1)")
				if i%2 == 0 {
					flush(t, c)
				}
				closeConn(t, c)
				closeConn(t, c2)
			}
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			var open []string
			for try := 0; try < 6000; try++ {
				if open = openUnder(t, "many-"+journal); len(open) == 0 {
					return
				}
				<-tick.C
			}
			t.Errorf("still open: %d, among them %s",
				len(open), strings.Join(open[:min(8, len(open))], ", "))
		})
	}
}

// openUnder lists what this process has open, or mapped, that has the text in its path.
func openUnder(t *testing.T, text string) (found []string) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink(fd); err == nil && strings.Contains(name, text) {
			found = append(found, name)
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, text) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}
