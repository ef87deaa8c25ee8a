package machine

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// roles are what this program does as another process.
var roles = map[string]func(f *File){
	// holds takes the lock, says so, and waits until it is killed, or its input ends.
	"holds": func(f *File) {
		if ok, err := f.TryLock(); !ok {
			panic(fmt.Sprint("no lock: ", err))
		}
		fmt.Println("locked")
		io.Copy(io.Discard, os.Stdin)
	},
	// stores takes the lock, and stores states 1, 2, 3 ..., each of which it tells before.
	"stores": func(f *File) {
		if ok, err := f.TryLock(); !ok {
			panic(fmt.Sprint("no lock: ", err))
		}
		for n := uint64(1); ; n++ {
			fmt.Println(n)
			if err := f.Store(stateOf(n)); err != nil {
				panic(err)
			}
		}
	},
	// leaves takes the lock, has a child share its open file, as a forked one does, and ends.
	"leaves": func(f *File) {
		if ok, err := f.TryLock(); !ok {
			panic(fmt.Sprint("no lock: ", err))
		}
		child := exec.Command("cat")
		child.Stdin, child.ExtraFiles = os.Stdin, []*os.File{f.f}
		if err := child.Start(); err != nil {
			panic(err)
		}
		fmt.Println("left")
		os.Exit(0) // without Close
	},
}

// stateOf is one that shows whether it is whole. Its length differs from its neighbours'.
func stateOf(n uint64) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, n), 1+int(n%3000))
}

func TestMain(m *testing.M) {
	role := roles[os.Getenv("MACHINE_TEST_ROLE")]
	if role == nil {
		os.Exit(m.Run())
	}
	f, err := Open(os.Getenv("MACHINE_TEST_DIR"), "/store/db")
	if err != nil {
		panic(err)
	}
	role(f)
}

// process starts this program in a role.
func process(t *testing.T, dir, role string) (*exec.Cmd, *bufio.Reader, io.Closer) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MACHINE_TEST_ROLE="+role, "MACHINE_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewReader(out), in
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *File {
	t.Helper()
	f, err := Open(dir, "/store/db")
	must(t, err)
	t.Cleanup(f.Close)
	return f
}

func shared(t *testing.T, dir string) *File {
	t.Helper()
	f := open(t, dir)
	must(t, f.Private())
	return f
}

// locks fails the test unless TryLock says want.
func locks(t *testing.T, f *File, want bool) {
	t.Helper()
	if got, err := f.TryLock(); err != nil || got != want {
		t.Fatalf("TryLock: %v, %v; want %v", got, err, want)
	}
}

// has fails the test unless f's state is want; nil: there is none.
func has(t *testing.T, f *File, want []byte) {
	t.Helper()
	if got, ok := f.Load(); ok != (want != nil) || !bytes.Equal(got, want) {
		t.Fatalf("state %d bytes %v; want %d", len(got), ok, len(want))
	}
}

// TestL1OneHolder: the lock is by open file, in one process, and ends with its process.
func TestL1OneHolder(t *testing.T) {
	dir := t.TempDir()
	a, b := shared(t, dir), shared(t, dir)
	seems := func(want bool) {
		t.Helper()
		if a.Free() != want || b.Free() != want {
			t.Fatalf("the lock seems free: %v, %v; want %v", a.Free(), b.Free(), want)
		}
	}
	seems(true)
	locks(t, a, true)
	seems(false)
	locks(t, a, false)
	locks(t, b, false)
	a.Unlock()
	seems(true)
	b.Unlock() // which is not its
	locks(t, b, true)
	locks(t, a, false)
	b.Close()
	locks(t, a, true)
	a.Unlock()

	other, out, _ := process(t, dir, "holds")
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	locks(t, a, false)
	must(t, other.Process.Kill())
	other.Wait()
	locks(t, a, true)
}

// TestL2HandOver: the next holder finds what the last one has stored.
func TestL2HandOver(t *testing.T) {
	dir := t.TempDir()
	a, b := shared(t, dir), shared(t, dir)
	if err := a.Store([]byte("x")); err == nil {
		t.Fatal("a state was stored without the lock")
	}
	locks(t, a, true)
	has(t, a, nil)
	for n, state := range [][]byte{{}, stateOf(1), stateOf(2000), {}, stateOf(7),
		make([]byte, StateBytesMax)} {
		holder, next := a, b
		if n%2 == 1 {
			holder, next = b, a
		}
		must(t, holder.Store(state))
		has(t, holder, state)
		has(t, next, nil) // it has no lock
		holder.Unlock()
		locks(t, next, true)
		has(t, next, state)
	}
	if err := a.Store(make([]byte, StateBytesMax+1)); err == nil {
		t.Fatal("a state that is too long was stored")
	}
	has(t, a, nil) // what stood there is not the newest any more
	must(t, a.Store(stateOf(3)))
	a.Clear()
	has(t, a, nil)
	must(t, a.Store(stateOf(4)))
	has(t, a, stateOf(4))
}

// TestL2Kill: a process that is killed at any point leaves a state that it stored last, or was
// about to.
func TestL2Kill(t *testing.T) {
	dir := t.TempDir()
	f := shared(t, dir)
	peeked := 0
	for round := range 30 {
		other, out, _ := process(t, dir, "stores")
		var told uint64
		for range 1 + round*round { // a line comes before its state is stored
			line, err := out.ReadString('\n')
			must(t, err)
			_, err = fmt.Sscan(line, &told)
			must(t, err)
			// Who has no lock sees a whole one, or none.
			state, ok := f.Peek()
			if ok && (len(state) < 8 ||
				!bytes.Equal(state, stateOf(binary.LittleEndian.Uint64(state)))) {
				t.Fatalf("a torn state of %d bytes", len(state))
			}
			if ok {
				peeked++
			}
		}
		must(t, other.Process.Kill())
		for { // what it had told until it died
			line, err := out.ReadString('\n')
			if err != nil {
				break
			}
			fmt.Sscan(line, &told)
		}
		other.Wait()
		locks(t, f, true)
		state, ok := f.Load()
		if !ok || len(state) < 8 {
			if told > 1 {
				t.Fatalf("no state, and %d was about to be stored", told)
			}
		} else if n := binary.LittleEndian.Uint64(state); !bytes.Equal(state, stateOf(n)) ||
			n != told && n != told-1 {
			t.Fatalf("state %d, and %d was about to be stored", n, told)
		}
		f.Clear()
		f.Unlock()
	}
	if peeked == 0 {
		t.Error("nobody has seen a state without the lock")
	}
}

// TestL2Damage: a state with any wrong byte is none.
func TestL2Damage(t *testing.T) {
	f := shared(t, t.TempDir())
	locks(t, f, true)
	must(t, f.Store([]byte("state")))
	slot := pageBytes + SlotBytes // the first one's
	for at := range int64(headerBytes + 5) {
		b := make([]byte, 1)
		_, err := f.f.ReadAt(b, int64(slot)+at)
		must(t, err)
		_, err = f.f.WriteAt([]byte{b[0] ^ 1}, int64(slot)+at)
		must(t, err)
		f.header, f.state = nil, nil // as who has not stored it
		has(t, f, nil)
		_, err = f.f.WriteAt(b, int64(slot)+at)
		must(t, err)
		has(t, f, []byte("state"))
	}
}

// TestRemoved: who finds the path's file removed, or replaced, begins anew, at the same address.
func TestRemoved(t *testing.T) {
	dir := t.TempDir()
	a, b := shared(t, dir), shared(t, dir)
	locks(t, a, true)
	must(t, a.Store(stateOf(5)))
	a.Page().Promise(7, time.Hour)
	if !b.Page().Newest(7, time.Minute) || b.Page().Newest(8, 0) || b.Page().Newest(7, time.Hour) {
		t.Fatal("the page is not as it was promised")
	}
	must(t, os.RemoveAll(b.place.dir))
	page := b.Page()
	locks(t, b, true) // of another file
	has(t, b, nil)
	if b.Page() != page || page.Newest(7, 0) || page.Number() != 0 {
		t.Fatal("a new file promises what the old one did") // L3, L4
	}
	has(t, a, stateOf(5)) // it knows nothing yet
	must(t, a.Renew())    // which does nothing: it has the lock
	has(t, a, stateOf(5))
	a.Unlock()
	locks(t, a, false)
	must(t, b.Store(stateOf(6)))
	b.Unlock()
	locks(t, a, true)
	has(t, a, stateOf(6))
	b.Page().Promise(9, time.Hour)
	if !a.Page().Newest(9, 0) {
		t.Fatal("two pages of one file")
	}
	a.Page().Withdraw()
	if b.Page().Newest(9, 0) || b.Page().Alone(0) {
		t.Fatal("a promise that was taken back holds")
	}
}

// TestL6Left: who leaves a deleted file takes back what was promised there, and takes the state
// away, or knows that it could not.
func TestL6Left(t *testing.T) {
	dir := t.TempDir()
	a, b, c := shared(t, dir), shared(t, dir), shared(t, dir)
	left := func(f *File, want bool, state []byte) {
		t.Helper()
		if got, has := f.Left(); has != want || !bytes.Equal(got, state) {
			t.Fatalf("left %v with %d bytes, want %v with %d", has, len(got), want, len(state))
		}
	}
	locks(t, a, true)
	must(t, a.Store(stateOf(3)))
	a.Page().Promise(7, time.Hour)
	a.Unlock()
	left(b, false, nil)
	must(t, os.RemoveAll(b.place.dir))
	must(t, b.Renew())
	left(b, true, stateOf(3))
	if a.Page().Alone(0) || c.Page().Newest(7, 0) {
		t.Fatal("a promise outlives its file")
	}
	locks(t, a, true) // of b's file
	left(a, true, nil)
	must(t, a.Store(stateOf(4)))
	left(a, false, nil)
	a.Page().Promise(8, time.Hour)
	must(t, os.RemoveAll(b.place.dir))
	locks(t, b, true)
	left(b, true, nil)
	if !a.Page().Newest(8, 0) || b.Page().Newest(8, 0) {
		t.Fatal("who holds the lock has not promised what it did")
	}
	has(t, b, nil)
	left(b, true, nil)
	must(t, b.Store(stateOf(1)))
	left(b, false, nil)
	b.Unlock()
	a.Unlock()
	locks(t, c, true) // it was with the first file
	left(c, true, nil)
	has(t, c, stateOf(1))
	left(c, false, nil)
}

// TestBreak: a lock that outlives its holder, in a child that shares its open file, is given up.
func TestBreak(t *testing.T) {
	dir := t.TempDir()
	a, b := shared(t, dir), shared(t, dir)
	other, out, _ := process(t, dir, "leaves")
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	other.Wait()
	locks(t, a, false)
	must(t, a.Break())
	locks(t, a, true)
	must(t, a.Break()) // which does nothing: the lock is its own
	locks(t, b, false) // b follows
	must(t, a.Store(stateOf(1)))
	a.Unlock()
	locks(t, b, true)
	has(t, b, stateOf(1))
	must(t, a.Break())
	locks(t, a, true)
	has(t, a, nil)
}

// TestLeave: who leaves takes nothing along but what works for itself.
func TestLeave(t *testing.T) {
	dir := t.TempDir()
	a, b := shared(t, dir), shared(t, dir)
	locks(t, a, true)
	must(t, a.Store(stateOf(1)))
	a.Page().Promise(3, time.Hour)
	page := a.Page()
	must(t, a.Leave())
	if a.Private() == nil || a.Page() != page || page.Newest(3, 0) {
		t.Fatal("a is there still")
	}
	locks(t, a, true)
	has(t, a, nil)
	page.Promise(4, time.Hour)
	locks(t, b, true)
	has(t, b, stateOf(1))
	if !b.Page().Newest(3, 0) || b.Page().Newest(4, 0) {
		t.Fatal("two pages are one")
	}
}

// TestBoots: another boot's file is not found, and is removed when it is old.
func TestBoots(t *testing.T) {
	dir := t.TempDir()
	a := shared(t, dir)
	locks(t, a, true)
	must(t, a.Store(stateOf(1)))
	a.Page().Promise(1, time.Hour)

	was := bootIDFile
	t.Cleanup(func() { bootIDFile = was })
	bootIDFile = filepath.Join(t.TempDir(), "boot_id")
	must(t, os.WriteFile(bootIDFile, []byte("11111111-2222-3333-4444-555555555555\n"), 0o600))
	b := shared(t, dir)
	locks(t, b, true)
	has(t, b, nil)
	if b.Page().Newest(1, 0) {
		t.Fatal("a promise of another boot holds")
	}
	if !a.place.has(a.is) {
		t.Fatal("a fresh file of another boot, or machine, was removed")
	}
	long := time.Now().Add(-2 * staleAge)
	must(t, os.Chtimes(a.f.Name(), long, long))
	shared(t, dir)
	if !a.place.has(a.is) {
		t.Fatal("the directory is read for each file")
	}
	tidied.Clear() // as in another process
	shared(t, dir)
	if a.place.has(a.is) || !b.place.has(b.is) {
		t.Fatal("not the old file was removed")
	}

	must(t, os.WriteFile(bootIDFile, []byte("nonsense\n"), 0o600))
	if c := open(t, dir); c.Private() == nil {
		t.Fatal("a file is shared although the boot is not known")
	}
}

// TestL5Foreign: what others could have made is refused, and all works without it.
func TestL5Foreign(t *testing.T) {
	for name, spoil := range map[string]func(p place){
		"directory is a link": func(p place) {
			must(t, os.Rename(p.dir, p.dir+".real"))
			must(t, os.Symlink(p.dir+".real", p.dir))
		},
		"directory is open to all": func(p place) { must(t, os.Chmod(p.dir, 0o770)) },
		"directory is a file": func(p place) {
			must(t, os.RemoveAll(p.dir))
			must(t, os.WriteFile(p.dir, nil, 0o600))
		},
		"file is a link": func(p place) {
			must(t, os.WriteFile(p.dir+"/victim", nil, 0o600))
			must(t, os.Remove(filepath.Join(p.dir, p.name)))
			must(t, os.Symlink("victim", filepath.Join(p.dir, p.name)))
		},
		"file is open to all": func(p place) {
			must(t, os.Chmod(filepath.Join(p.dir, p.name), 0o606))
		},
		"file is a directory": func(p place) {
			must(t, os.Remove(filepath.Join(p.dir, p.name)))
			must(t, os.Mkdir(filepath.Join(p.dir, p.name), 0o700))
		},
		"no directory": func(p place) { must(t, os.RemoveAll(filepath.Dir(p.dir))) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			spoil(shared(t, dir).place)
			a, b := open(t, dir), open(t, dir)
			why := a.Private()
			if why == nil || !strings.Contains(why.Error(), dir) {
				t.Fatalf("it is used, or the culprit is not named: %v", why)
			}
			for _, f := range []*File{a, b} { // each of them is alone
				locks(t, f, true)
				locks(t, f, false)
				must(t, f.Store(stateOf(1)))
				has(t, f, stateOf(1))
				must(t, f.Break())
				f.Page().Promise(1, time.Hour)
			}
			a.Page().Withdraw()
			if !b.Page().Newest(1, 0) {
				t.Fatal("two private files are one")
			}
		})
	}
}

// TestOffsets: C reads the page, too.
func TestOffsets(t *testing.T) {
	var p Page
	if a, b, c := unsafe.Offsetof(p.until), unsafe.Offsetof(p.number),
		unsafe.Offsetof(p.wanted); a != 0 || b != 8 || c != 16 {
		t.Fatal(a, b, c)
	}
}
