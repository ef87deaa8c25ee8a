// Package machine is the file by which the processes of one machine share the lease of a database
// that lives in a store. It has a lock, which passes the right to write from one process to the
// next; what the next one must know to go on without asking the store (the state); and one page
// that all of them map, which tells readers that they need not ask the store.
//
// The file only saves requests and time. Who is right, the log decides (package manifest/history),
// also between processes that have two files, or none.
//
// # The file
//
// It is DIR/verneuil-remote-UID/NAME-BOOT: UID the effective user's, NAME the first 16 bytes, in
// hex, of the BLAKE3-256 of the database's name, BOOT the first 8 of that of the machine's boot ID
// and of the name of the process's time namespace, by which CLOCK_BOOTTIME differs. So no process
// finds what another boot, another machine that shares DIR, or another clock has left. A new file
// is all zeros, which is a page that promises nothing, and no state: nobody initializes it. All
// numbers are the machine's (little-endian on all that we build for).
//
//	offset   size
//	0        8     until: CLOCK_BOOTTIME in ns
//	8        8     number: names a record; 0: none
//	16       8     wanted: CLOCK_BOOTTIME in ns, when a process last found the lock taken
//	24       8     the sequence number of the state; 0: there is none
//	4096     …     slot 0: of states with an even sequence number
//	…        …     slot 1, at 4096 + SlotBytes: with an odd one
//
// A slot:
//
//	0        4     magic "VRMS"
//	4        4     format version, 1
//	8        8     sequence number
//	16       8     length of the state
//	24       32    BLAKE3-256 of the 24 bytes before, NAME-BOOT, and the state
//	56       …     the state
//
// # The page
//
// Until then no other machine goes on, and the version with that record is the newest of which
// anybody was told, so that nobody need be asked. The holder of the lock alone promises that. He
// takes the promise back before he gives the history back ([Page.Withdraw]), and the number before
// he tells anybody of a version that has no record yet ([Page.Hide]): others must ask then, and he
// knows by `until` that his own is the newest. A reader loads `until` before `number`: if `number`
// is its own then, its version was the newest when it loaded `until`. (Loaded the other way round,
// they may be of two promises.) The C side (cgo/remote_file.h) does the same with the same offsets.
//
// # The state
//
// It is opaque. Only the holder of the lock stores it, and only he knows that what he loads is the
// newest; others may look at it ([File.Peek]), and find what was stored a moment ago, whole, or
// nothing. A new one goes to the slot that does not count; then one store to the page makes it
// count. A process that is killed at any point
// leaves the old one or the new one. It needs no fsync: what a crash of the machine leaves is of
// another boot.
//
// # Invariants
//
//	L1  At most one open file has the lock of one inode.
//	L2  Load returns what the last Store or Clear under this inode's lock left, or nothing.
//	L3  A page promises only what the holder of its inode's lock has promised, and not after
//	    Withdraw. A page that begins anew promises nothing.
//	L4  [File.Page] is one address for the life of a File, whichever file is mapped there.
//	L5  Files of other users, and symbolic links, are never followed.
//	L6  Who leaves a file that no path leads to leaves no promise on its page, and no state, or
//	    knows that somebody else has the lock of that file.
//
// # Beliefs
//
// The path's file is the one that is open: by device and inode, each time that the lock is taken,
// before and after. Defeated by a cleaner of /tmp a moment later. Then two processes hold two
// locks. The second one finds no state, and does not know what was promised on the pages of files
// that it has not seen, or whose lock was somebody else's. So ([File.Left]) it goes on as the
// writer that it was only if nobody had gone on in the file that it left, and the log says that
// nobody has gone on elsewhere. All others wait until the history was given back, or its owner is
// dead, and take it over by a fence, as another machine would, and under a new name: what is
// appended under the old one is the first one's. The first one's next append conflicts, and the
// next time it moves to the new file.
//
// Who holds the lock is alive: an OFD lock belongs to the open file, which the kernel closes when
// the process ends. Defeated by a process that stopped (SIGSTOP), and by a child that was forked
// without exec: it shares the open file, so that the lock outlives its parent (and if the child
// unlocked it, the parent would not know; so the library refuses all databases in a store in a
// forked child). Then nobody of this machine gets the lock. Who has waited for as long as the log
// demands that a holder be silent calls [File.Break], which gives the path a new file.
//
// The state is the newest: as it is under the lock of its own inode, and of this boot. Defeated by
// who puts back the directory's content within a boot, or clones the machine with its memory.
// Then a copy of a writer goes on: history's T4 is about such ones.
//
// The mapped page is there: it was allocated, and nobody truncates a file with mode 0600 in a
// directory with mode 0700. Defeated by the user himself, or root: the process gets SIGBUS.
//
// The file system keeps locks and mappings coherent within the machine. Defeated by file systems
// that refuse either (then the File is private), and by those of virtual machines or containers
// that share a directory but not a kernel: their boot IDs differ, and so do their files.
package machine
