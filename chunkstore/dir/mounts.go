package dir

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Where the system says what is to be mounted, and what is.
var (
	fstab     = "/etc/fstab"
	mountinfo = "/proc/self/mountinfo"
)

// checkMounted fails if dir, which need not exist, is to lie in a file system that is not mounted:
// fstab has a mount point there, or above, where nothing is mounted. Else a server that is away, or
// a disk that was not plugged in, would pass for an empty target, and what is put there
// lie on the disk that it is to save from, hidden as soon as the other one is mounted.
//
// Belief: the target's file system is mounted. Witness: no mount point of fstab says otherwise.
// Defeated by: one that is mounted by hand, or by a unit of systemd's, and not named there.
func checkMounted(dir string) error {
	points, err := fields(fstab, 1)
	if err != nil {
		return nil // a system without: nothing is known
	}
	mounted, err := fields(mountinfo, 4)
	if err != nil {
		return nil
	}
	dir = resolved(dir)
	for at := range points {
		at = filepath.Clean(at)
		below := at != "/" && filepath.IsAbs(at) &&
			(dir == at || strings.HasPrefix(dir, at+"/"))
		if below && !mounted[at] {
			return fmt.Errorf("nothing is mounted at %s, as %s says there should be: mount it, or "+
				"remove the entry", at, fstab)
		}
	}
	return nil
}

// resolved is dir without symbolic links, as far as it exists.
func resolved(dir string) string {
	real, err := filepath.EvalSymlinks(dir)
	if parent := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && parent != dir {
		return filepath.Join(resolved(parent), filepath.Base(dir))
	} else if err != nil {
		return dir
	}
	return real
}

// fields returns the words of that index of all lines of a file as those two are.
func fields(name string, index int) (map[string]bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	words := make(map[string]bool)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		all := strings.Fields(lines.Text())
		if len(all) > index && !strings.HasPrefix(all[0], "#") {
			words[unescaped(all[index])] = true
		}
	}
	return words, lines.Err()
}

// unescaped is word with \040 and the like in plain.
func unescaped(word string) string {
	before, after, found := strings.Cut(word, `\`)
	if !found {
		return word
	}
	if len(after) >= 3 {
		if c, err := strconv.ParseUint(after[:3], 8, 8); err == nil {
			return before + string([]byte{byte(c)}) + unescaped(after[3:])
		}
	}
	return before + `\` + unescaped(after)
}
