// Package faultcall runs a program and lets a test decide what happens to each of its system calls
// on files: the call fails, a write is short, or the process dies before the call. It runs the real
// program with all of its threads, C and Go alike; the program needs no code for this.
//
// A seccomp filter makes the kernel ask a supervisor about these calls (seccomp_unotify(2)); the
// supervisor is a goroutine of the test. So the calls of all threads are counted in one order, and
// a call costs microseconds. This needs Linux 5.19 or later, and no privileges.
//
// Two things are left out. A write to a mapped file is not a call (mapping is one, and so is the
// madvise(2) that populates the mapping, which has no path). And close is not asked about: if it
// reported an error, the program would keep a descriptor that the kernel has in fact released.
//
// The test's own binary, run again, installs the filter in this package's init.
package faultcall
