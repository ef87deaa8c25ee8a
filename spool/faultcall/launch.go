package faultcall

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// launchEnv makes the test's binary a launcher: the socket's descriptor, and the program.
const launchEnv = "FAULTCALL_LAUNCH"

func init() {
	how, ok := os.LookupEnv(launchEnv)
	if !ok {
		return
	}
	var socket int
	number, program, _ := strings.Cut(how, " ")
	_, err := fmt.Sscan(number, &socket)
	if err == nil {
		os.Unsetenv(launchEnv)
		err = launch(socket, program)
	}
	fmt.Fprintln(os.Stderr, "faultcall:", err)
	os.Exit(127)
}

// launch installs the filter in this thread, sends its descriptor, and becomes program.
func launch(socket int, program string) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	filter := filter()
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER |
		unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	oob, text := unix.UnixRights(0), []byte{0}
	iov := unix.Iovec{Base: &text[0], Len: 1}
	message := unix.Msghdr{Iov: &iov, Iovlen: 1, Control: &oob[0], Controllen: uint64(len(oob))}
	// No call may be asked about in between, as nobody answers yet: not even one of Go's runtime.
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags,
		uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	*(*int32)(unsafe.Pointer(&oob[unix.CmsgLen(0)])) = int32(fd)
	if _, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(socket),
		uintptr(unsafe.Pointer(&message)), 0); errno != 0 {
		return fmt.Errorf("send: %w", errno)
	}
	unix.Close(int(fd))
	unix.Close(socket)
	return unix.Exec(program, os.Args, os.Environ())
}

// call says which arguments of a system call name its file; -1: none.
type call struct {
	name          string
	fd, dir, path int
}

var calls = map[int32]call{
	unix.SYS_OPEN:            {"open", -1, -1, 0},
	unix.SYS_OPENAT:          {"openat", -1, 0, 1},
	unix.SYS_READ:            {"read", 0, -1, -1},
	unix.SYS_PREAD64:         {"pread64", 0, -1, -1},
	unix.SYS_WRITE:           {"write", 0, -1, -1},
	unix.SYS_PWRITE64:        {"pwrite64", 0, -1, -1},
	unix.SYS_WRITEV:          {"writev", 0, -1, -1},
	unix.SYS_TRUNCATE:        {"truncate", -1, -1, 0},
	unix.SYS_FTRUNCATE:       {"ftruncate", 0, -1, -1},
	unix.SYS_FALLOCATE:       {"fallocate", 0, -1, -1},
	unix.SYS_FSYNC:           {"fsync", 0, -1, -1},
	unix.SYS_FDATASYNC:       {"fdatasync", 0, -1, -1},
	unix.SYS_SYNCFS:          {"syncfs", 0, -1, -1},
	unix.SYS_RENAME:          {"rename", -1, -1, 0},
	unix.SYS_RENAMEAT:        {"renameat", -1, 0, 1},
	unix.SYS_RENAMEAT2:       {"renameat2", -1, 0, 1},
	unix.SYS_UNLINK:          {"unlink", -1, -1, 0},
	unix.SYS_UNLINKAT:        {"unlinkat", -1, 0, 1},
	unix.SYS_MKDIR:           {"mkdir", -1, -1, 0},
	unix.SYS_MKDIRAT:         {"mkdirat", -1, 0, 1},
	unix.SYS_MKNOD:           {"mknod", -1, -1, 0},
	unix.SYS_MKNODAT:         {"mknodat", -1, 0, 1},
	unix.SYS_LINK:            {"link", -1, -1, 0},
	unix.SYS_LINKAT:          {"linkat", -1, 0, 1},
	unix.SYS_STAT:            {"stat", -1, -1, 0},
	unix.SYS_LSTAT:           {"lstat", -1, -1, 0},
	unix.SYS_FSTAT:           {"fstat", 0, -1, -1},
	unix.SYS_NEWFSTATAT:      {"newfstatat", -1, 0, 1},
	unix.SYS_STATX:           {"statx", -1, 0, 1},
	unix.SYS_CHMOD:           {"chmod", -1, -1, 0},
	unix.SYS_FCHMOD:          {"fchmod", 0, -1, -1},
	unix.SYS_MMAP:            {"mmap", 4, -1, -1},
	unix.SYS_MADVISE:         {"madvise", -1, -1, -1},
	unix.SYS_FLOCK:           {"flock", 0, -1, -1},
	unix.SYS_FCNTL:           {"fcntl", 0, -1, -1},
	unix.SYS_GETDENTS64:      {"getdents64", 0, -1, -1},
	unix.SYS_COPY_FILE_RANGE: {"copy_file_range", 2, -1, -1},
}

const (
	offsetNR   = 0 // in struct seccomp_data
	offsetArch = 4
	offsetFD   = 48         // of mmap's descriptor, args[4]
	offsetHow  = 32         // of madvise's advice, args[2]
	auditArch  = 0xc000003e // x86-64
)

// filter returns a program that asks about these calls, and lets everything else pass.
func filter() []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	result := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
	}
	equal := func(k uint32, jt, jf uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: jt, Jf: jf}
	}
	f := []unix.SockFilter{
		load(offsetArch), equal(auditArch, 1, 0), result(unix.SECCOMP_RET_ALLOW), load(offsetNR),
	}
	f = append(f, // do not ask about memory without a file
		equal(unix.SYS_MMAP, 0, 4), load(offsetFD), equal(0xffffffff, 1, 0),
		result(unix.SECCOMP_RET_USER_NOTIF), result(unix.SECCOMP_RET_ALLOW))
	f = append(f, // nor about advice that reads and writes nothing
		equal(unix.SYS_MADVISE, 0, 4), load(offsetHow), equal(unix.MADV_POPULATE_WRITE, 0, 1),
		result(unix.SECCOMP_RET_USER_NOTIF), result(unix.SECCOMP_RET_ALLOW))
	for nr := range calls {
		f = append(f, equal(uint32(nr), 0, 1), result(unix.SECCOMP_RET_USER_NOTIF))
	}
	return append(f, result(unix.SECCOMP_RET_ALLOW))
}
