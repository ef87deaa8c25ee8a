package spool

import (
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLocal: the nearest directory that exists decides, and what cannot be asked is left to who
// uses it.
func TestLocal(t *testing.T) {
	if err := Local(t.TempDir() + "/not/yet"); err != nil {
		t.Error(err)
	}
	for what, c := range map[string]struct {
		kind int64
		err  error
		want string
	}{
		"nfs":     {unix.NFS_SUPER_MAGIC, nil, "(NFS)"},
		"cifs":    {unix.CIFS_SUPER_MAGIC, nil, "(CIFS)"},
		"ext4":    {unix.EXT4_SUPER_MAGIC, nil, ""},
		"tmpfs":   {unix.TMPFS_MAGIC, nil, ""},
		"refused": {unix.NFS_SUPER_MAGIC, fs.ErrPermission, ""},
	} {
		err := local("/srv/spool/deep", func(dir string, at *unix.Statfs_t) error {
			if dir != "/srv" {
				return unix.ENOENT
			}
			at.Type = c.kind
			return c.err
		})
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}
