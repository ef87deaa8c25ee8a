package hosts_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"verneuil/test/crash"
	"verneuil/test/e2e/harness"
)

// Filters of system calls (seccomp). Databases work as they do with stock SQLite, and
// are replicated, or it is said which call is forbidden.

// spareCalls are those that replication does without, or that it is found out in time to
// have no need of: what sandboxes forbid, and some that runtimes like to make.
var spareCalls = []int{
	// Docker's default and systemd's @system-service forbid these.
	unix.SYS_ACCT, unix.SYS_ADD_KEY, unix.SYS_BPF, unix.SYS_CLOCK_ADJTIME, unix.SYS_CLOCK_SETTIME,
	unix.SYS_IO_URING_SETUP,
	unix.SYS_KEXEC_LOAD, unix.SYS_KEYCTL, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_MOUNT,
	unix.SYS_NAME_TO_HANDLE_AT,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_PERF_EVENT_OPEN, unix.SYS_PERSONALITY,
	unix.SYS_PROCESS_VM_READV, unix.SYS_PTRACE,
	unix.SYS_QUOTACTL, unix.SYS_REBOOT, unix.SYS_SETNS, unix.SYS_SWAPON, unix.SYS_SYSLOG,
	unix.SYS_UNSHARE, unix.SYS_USERFAULTFD,
	// Stricter ones forbid some of these.
	unix.SYS_CONNECT, unix.SYS_COPY_FILE_RANGE, unix.SYS_GETTID, unix.SYS_INOTIFY_INIT1,
	unix.SYS_LINK, unix.SYS_LINKAT,
	unix.SYS_MEMBARRIER, unix.SYS_MEMFD_CREATE, unix.SYS_MINCORE, unix.SYS_PIDFD_OPEN,
	unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_PRCTL,
	unix.SYS_READLINK, unix.SYS_READLINKAT, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SCHED_SETAFFINITY,
	unix.SYS_SCHED_YIELD,
	unix.SYS_SENDFILE, unix.SYS_SETITIMER, unix.SYS_SOCKET, unix.SYS_SPLICE, unix.SYS_TGKILL,
	unix.SYS_TIMER_CREATE,
	unix.SYS_TRUNCATE, unix.SYS_UNAME,
}

// neededCalls are those that replication or the Go runtime cannot do without, and SQLite can.
var neededCalls = map[string][]int{
	"epoll_create1":  {unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CREATE},
	"epoll_ctl":      {unix.SYS_EPOLL_CTL},
	"epoll_pwait":    {unix.SYS_EPOLL_PWAIT},
	"eventfd2":       {unix.SYS_EVENTFD2},
	"fallocate":      {unix.SYS_FALLOCATE},
	"flock":          {unix.SYS_FLOCK},
	"fstatfs":        {unix.SYS_FSTATFS},
	"fsync":          {unix.SYS_FSYNC},
	"getdents64":     {unix.SYS_GETDENTS64},
	"getrandom":      {unix.SYS_GETRANDOM},
	"lseek":          {unix.SYS_LSEEK},
	"mkdir":          {unix.SYS_MKDIR, unix.SYS_MKDIRAT},
	"mknod":          {unix.SYS_MKNOD, unix.SYS_MKNODAT},
	"rename":         {unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2},
	"rt_sigprocmask": {unix.SYS_RT_SIGPROCMASK},
	"sigaltstack":    {unix.SYS_SIGALTSTACK},
	"statx":          {unix.SYS_STATX},
	"threads":        {unix.SYS_CLONE, unix.SYS_CLONE3},
	"unlinkat":       {unix.SYS_UNLINKAT},
}

// alsoForbidden are calls that are tried one by one in the long form only.
var alsoForbidden = map[string][]int{
	"clone3":    {unix.SYS_CLONE3},
	"madvise":   {unix.SYS_MADVISE},
	"nanosleep": {unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP},
	"pipe2":     {unix.SYS_PIPE2},
	"prlimit64": {unix.SYS_PRLIMIT64},
	"renameat2": {unix.SYS_RENAMEAT2},
	"sigaction": {unix.SYS_RT_SIGACTION},
}

// filtered starts a host under filters that were there before it was.
func filtered(s *harness.Site, errno syscall.Errno, calls []int) *harness.Process {
	s.T.Helper()
	h := s.Host()
	// as Docker does
	h.Must(fmt.Sprintf(".seccomp %d %s", unix.ENOSYS, fmt.Sprint(unix.SYS_CLONE3)))
	h.Must(fmt.Sprintf(".seccomp %d %s", errno, strings.Trim(fmt.Sprint(calls), "[]")))
	h.Send(".exec " + harness.HostProgram(s.T))
	return h
}

// TestSpareCalls: under the filters of usual sandboxes, and stricter ones, databases are
// replicated.
func TestSpareCalls(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.EPERM, unix.ENOSYS} {
		s := harness.DirSite(t)
		if h := filtered(s, errno, spareCalls); !replicated(h, s, s.Path("a.db"), errno.Error()) {
			t.Errorf("not replicated under %s: %s", unix.ErrnoName(errno), h.Stderr())
		}
		s.MustEqual("a.db")
	}
}

// TestForbiddenCallFaults: a call fails that replication needs. With VERNEUIL_FAULT_STRIDE
// each of all, in both ways.
func TestForbiddenCallFaults(t *testing.T) {
	type filter struct {
		name  string
		calls []int
		errno syscall.Errno
	}
	var filters []filter
	for name, calls := range neededCalls {
		filters = append(filters, filter{name, calls, unix.EPERM})
	}
	if crash.Chosen() {
		for name, calls := range neededCalls {
			filters = append(filters, filter{name, calls, unix.ENOSYS})
		}
		for name, calls := range alsoForbidden {
			filters = append(filters, filter{name, calls, unix.EPERM},
				filter{name, calls, unix.ENOSYS})
		}
		for _, call := range spareCalls {
			filters = append(filters, filter{fmt.Sprint("call ", call), []int{call}, unix.EPERM})
		}
	}
	for _, f := range filters {
		t.Run(f.name+"/"+unix.ErrnoName(f.errno), func(t *testing.T) {
			s := harness.DirSite(t)
			if replicated(filtered(s, f.errno, f.calls), s, s.Path("a.db"), f.errno.Error()) {
				s.MustEqual("a.db")
			}
		})
	}
}

// replicated has the host write to a database, which must work, and end. Where it is not
// replicated, the reason must be told.
func replicated(h *harness.Process, s *harness.Site, db, reason string) bool {
	s.T.Helper()
	h.Ask(".open " + db)
	for _, sql := range []string{"create table t(a integer primary key, b)",
		"insert into t(b) values(randomblob(150000))", "update t set b = 'new'"} {
		if answer := h.Ask(sql); answer != "" {
			s.T.Fatalf("%s: %s", sql, answer)
		}
	}
	h.Want("select b from t", "new")
	flushed := h.Ask("pragma verneuil_flush_replication_data")
	status := h.Ask("select verneuil_status()")
	h.EndsWith(0)
	if flushed != "1" && !strings.Contains(strings.ToLower(status), strings.ToLower(reason)) {
		s.T.Errorf("not replicated, and verneuil_status() does not say %q: %s", reason, status)
	}
	return flushed == "1"
}
