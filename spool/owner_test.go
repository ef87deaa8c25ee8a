package spool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// nobody is a user who is not the one that runs the tests.
const nobody = 65534

// ownedByNobody makes path another user's, which only root can do; others find that
// what is root's is not theirs, but for the directory that root shares out.
func ownedByNobody(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	if err := os.Chown(path, nobody, nobody); err != nil {
		t.Fatal(err)
	}
}

// TestTrust: a spool that somebody else has planted is neither opened nor made.
func TestTrust(t *testing.T) {
	for name, test := range map[string]struct {
		plant func(t *testing.T, root, dir string)
		want  string
	}{
		"root is a link": {func(t *testing.T, root, _ string) {
			err := errors.Join(os.Rename(root, root+".real"), os.Symlink(root+".real", root))
			if err != nil {
				t.Fatal(err)
			}
		}, "symbolic link"},
		"root is another's": {func(t *testing.T, root, _ string) {
			ownedByNobody(t, root)
		}, "mode 1777"},
		"spool is a link": {func(t *testing.T, _, dir string) {
			err := errors.Join(os.Rename(dir, dir+".real"), os.Symlink(dir+".real", dir))
			if err != nil {
				t.Fatal(err)
			}
		}, "symbolic link"},
		"spool is another's": {func(t *testing.T, _, dir string) {
			ownedByNobody(t, dir)
		}, "that user flushes it"},
		"spool is open to others": {func(t *testing.T, _, dir string) {
			if err := os.Chmod(dir, 0o770); err != nil {
				t.Fatal(err)
			}
		}, "other users"},
		"spool is a file": {func(t *testing.T, _, dir string) {
			err := errors.Join(os.Rename(dir, dir+".real"), os.WriteFile(dir, nil, 0o600))
			if err != nil {
				t.Fatal(err)
			}
		}, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			root, db := filepath.Join(base, "root"), filepath.Join(base, "a.db")
			if err := os.WriteFile(db, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Create(root, db, 0o700)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.WriteSourceConfig(SourceConfig{Path: db, Host: "h"}); err != nil {
				t.Fatal(err)
			}
			test.plant(t, root, s.Dir())
			_, created := Create(root, db, 0o700)
			_, opened := Open(s.Dir())
			_, read := ReadSourceConfig(s.Dir())
			for _, err := range []error{created, opened, read} {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want one with %q", err, test.want)
				}
			}
		})
	}
}

// TestTrustShared: root may share out one directory for the spools of all users, if they cannot
// rename each other's, nor the directory itself.
func TestTrustShared(t *testing.T) {
	base := t.TempDir()
	root, dir := filepath.Join(base, "root"), filepath.Join(base, "root", "spool")
	if err := Trust(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	err := errors.Join(os.Mkdir(root, 0o700), os.Chmod(root, 0o777), os.Mkdir(dir, 0o700))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		mode os.FileMode
		want string
	}{
		{root, 0o777, "chmod +t"},
		{root, 0o775, "chmod +t"},
		{root, 0o777 | os.ModeSticky, ""},
		{base, 0o777, "chmod +t"},
		{base, 0o777 | os.ModeSticky, ""},
		{base, 0o775, ""},
	} {
		if err := os.Chmod(test.name, test.mode); err != nil {
			t.Fatal(err)
		}
		if err := Trust(dir); test.want == "" && err != nil || test.want != "" &&
			(err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s %v: %v, want %q", test.name, test.mode, err, test.want)
		}
	}
}

// TestRootMode: a spooling directory that is made for others to write to is sticky.
func TestRootMode(t *testing.T) {
	for permissions, want := range map[os.FileMode]os.FileMode{0: 0o700, 0o755: 0o755,
		0o770: 0o770 | os.ModeSticky, 0o777: 0o777 | os.ModeSticky} {
		if mode := RootMode(permissions); mode != want {
			t.Errorf("%v becomes %v, want %v", permissions, mode, want)
		}
	}
}
