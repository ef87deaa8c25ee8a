package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore/probe"
)

// What doctor finds of the host. Each state is a real one, made by a launcher: a program that
// makes it for itself, and becomes verneuilctl.

// actUnderFilter has the test binary become the program of its arguments, under a filter of system
// calls that allows all.
const actUnderFilter = "VERNEUILCTL_TEST_FILTER"

func underFilter(argv []string) error {
	runtime.LockOSThread()
	allow := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
	program := unix.SockFprog{Len: uint16(len(allow)), Filter: &allow[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0,
		uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return unix.Exec(argv[0], argv, os.Environ())
}

// findingsUnder runs doctor --read-only --json as the last arguments of a launcher.
func findingsUnder(s *site, launcher ...string) (found []probe.Finding) {
	s.t.Helper()
	argv := append(launcher, ctlCommand("-c", s.config(), "doctor", "--json", "--read-only")...)
	r := program(s.t, nil, argv...)
	for text := range strings.Lines(r.stdout) {
		var f probe.Finding
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			s.t.Fatalf("%q: %v\n%s%s", argv, err, r.stdout, r.stderr)
		}
		found = append(found, f)
	}
	if len(found) == 0 {
		s.t.Fatalf("%q finds nothing: exit code %d\n%s", argv, r.code, r.stderr)
	}
	return found
}

// ofCheck returns what was found of a check.
func ofCheck(found []probe.Finding, check string) (some []probe.Finding) {
	for _, f := range found {
		if f.Check == check {
			some = append(some, f)
		}
	}
	return some
}

// mounts returns a launcher with mounts of its own, which the script makes; the test is skipped
// where mounts may not be made.
func mounts(t *testing.T, script string) []string {
	t.Helper()
	may := exec.Command("unshare", "-m", "sh", "-ec", "mount -t tmpfs tmpfs /run")
	if said, err := may.CombinedOutput(); err != nil {
		t.Skipf("mounts need rights that are missing here: %v: %s", err, said)
	}
	return []string{"unshare", "-m", "sh", "-ec", script + ` && exec "$@"`, "sh"}
}

// TestDoctorHost: what is not as it should be with a host is found, and is not found without it.
func TestDoctorHost(t *testing.T) {
	s := dirSite(t)
	if err := os.Mkdir(s.path("spool"), 0o700); err != nil {
		t.Fatal(err)
	}
	const spool = "replication_spooling_dir"
	for name, c := range map[string]struct {
		launcher    func(*testing.T) []string
		level       probe.Level
		check, says string
	}{
		"seccomp": {func(t *testing.T) []string {
			return []string{"env", actUnderFilter + "=1", os.Args[0]}
		}, probe.Note, "seccomp", "a filter of system calls"},
		"kernel": {func(t *testing.T) []string {
			older := []string{"setarch", "--uname-2.6"}
			said, err := exec.Command(older[0], older[1], "true").CombinedOutput()
			if err != nil {
				t.Skipf("no personality of an older kernel: %v: %s", err, said)
			}
			return older
		}, probe.Note, "kernel", "Linux 2.6."},
		"proc": {func(t *testing.T) []string {
			return mounts(t, "mount -t tmpfs tmpfs /proc")
		}, probe.Unsafe, "/proc", "not mounted"},
		"room": {func(t *testing.T) []string {
			return mounts(t, "mount -t tmpfs -o size=64m,mode=700 tmpfs "+s.path("spool"))
		}, probe.Warning, spool, "has 64 MiB free"},
		"hostname": {func(t *testing.T) []string {
			s.configure(map[string]any{"hostname": nil})
			return mounts(t, "mount -t tmpfs tmpfs /run && touch /run/.containerenv")
		}, probe.Warning, "hostname", "is a container's"},
		"spooling dir": {func(t *testing.T) []string {
			s.configure(map[string]any{spool: nil})
			return nil
		}, probe.Note, spool, "it is not set"},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			s.configure(nil)
			if name != "seccomp" { // the test may run under a filter itself
				for _, f := range findings(s, 0, "--read-only") {
					if f.Check == c.check && strings.Contains(f.Text, c.says) {
						t.Errorf("found where it is not: %+v", f)
					}
				}
			}
			found := findingsUnder(s, c.launcher(t)...)
			finds(t, found, c.level, c.check, c.says)
			if len(ofCheck(found, "reach")) == 0 {
				t.Errorf("the target was not looked at: %+v", found)
			}
		})
	}
}

// TestDoctorNoExtensions: a sqlite3 shell that was built without the loading of extensions.
func TestDoctorNoExtensions(t *testing.T) {
	s := dirSite(t)
	bin := s.path("bin")
	shell := filepath.Join(bin, "sqlite3")
	built := program(t, []string{"CGO_ENABLED=1", "CGO_CFLAGS=-O0"}, "go", "build", "-tags",
		"sqlite_omit_load_extension", "-o", shell, "../../test/hosts/noload")
	if built.code != 0 {
		t.Fatalf("go build: %s", built.stderr)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	found := findings(s, 0, "--read-only")
	finds(t, found, probe.Warning, "SQLite", "SQLITE_OMIT_LOAD_EXTENSION")
	for _, f := range ofCheck(found, "SQLite") {
		if strings.Contains(f.Text, "OMIT_LOAD") && f.Where != shell {
			t.Errorf("of another SQLite: %+v", f)
		}
	}
}
