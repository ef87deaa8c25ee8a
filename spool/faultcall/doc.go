// Package faultcall runs a program and lets a test decide what becomes of each of
// its system calls on files: that it fails, that a write is short, or that the
// process dies before it. The program is the real one, with all of its threads, C and
// Go alike, and has no code for it.
//
// How: a seccomp filter makes the kernel ask a supervisor, which is a goroutine of the
// test, about these calls (seccomp_unotify(2)). So they are counted over all threads and in
// one order, and a call costs microseconds. Linux 5.19 or later, no privileges.
//
// What it cannot do: writes to mapped files are no calls (mapping them is one, and so is
// madvise(2) that populates the mapping; it has no path); close is not asked about, as an
// error of it would leak what the kernel gives back in truth.
//
// The filter is installed by the test's own binary, run again, in this package's init.
package faultcall
