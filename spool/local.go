package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Local fails, and says why, if dir, or the nearest directory above it that exists, is on a network
// file system. Processes of one machine share a spool's files in memory; where another machine may
// have them open, too, or a lock may be lost, transactions would be. What cannot be asked is no
// failure: to use it is.
func Local(dir string) error { return local(dir, unix.Statfs) }

func local(dir string, statfs func(string, *unix.Statfs_t) error) error {
	var at unix.Statfs_t
	for above := dir; ; above = filepath.Dir(above) {
		err := statfs(above, &at)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || above == filepath.Dir(above) {
			return nil
		}
	}
	name, network := networks[int64(at.Type)]
	if !network {
		return nil
	}
	return fmt.Errorf("%s is on a network file system (%s): processes share the files of a "+
		"spool in "+
		"memory, so name a replication_spooling_dir on a local one", dir, name)
}

// networks are file systems that other machines may have, too.
var networks = map[int64]string{
	unix.NFS_SUPER_MAGIC: "NFS", unix.CIFS_SUPER_MAGIC: "CIFS", unix.SMB_SUPER_MAGIC: "SMB",
	unix.SMB2_SUPER_MAGIC: "SMB", unix.CEPH_SUPER_MAGIC: "CephFS", unix.AFS_SUPER_MAGIC: "AFS",
	unix.V9FS_MAGIC: "9p", unix.CODA_SUPER_MAGIC: "Coda",
}
