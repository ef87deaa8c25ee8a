# Lists and runs SQLite's TCL tests, one file in a process:
#
#     testfixture suites.tcl list           prints "suite file" lines
#     testfixture suites.tcl run SUITE FILE
#
# Suites are those of test/permutations.test, and some of ours that bring a journal or
# locking mode into all of them. SUITE_SRC is SQLite's source.
set verb [lindex $argv 0]
set suite [lindex $argv 1]
set file [lindex $argv 2]
set argv {}
set argv0 [file join $env(SUITE_SRC) test suites.tcl]
source [file join $env(SUITE_SRC) test permutations.test]

# What concerns the VFS, of the tests that "quick" leaves out for their duration.
set slow {
  backup.test backup_ioerr.test corrupt.test corruptC.test crash.test crash2.test
  crash3.test crash4.test crash5.test crash6.test crash7.test incrvacuum_ioerr.test misc7.test mmap4.test
  mutex2.test notify2.test pagerfault2.test savepoint4.test savepoint6.test securedel2.test shared_err.test
  thread001.test thread002.test thread003.test thread004.test thread005.test trans2.test vacuum3.test
  walcrash.test walcrash2.test walcrash3.test walprotocol.test walslow.test walthread.test writecrash.test
}
set veryquick [dict get $::testspec(veryquick) -files]
test_suite slow -files $slow
foreach {name sql} {
  all-wal        {PRAGMA journal_mode = WAL}
  all-exclusive  {PRAGMA locking_mode = EXCLUSIVE}
  all-walex      {PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL}
  all-truncate   {PRAGMA journal_mode = TRUNCATE}
  all-persist    {PRAGMA journal_mode = PERSIST}
} {
  test_suite $name -presql $sql -files $veryquick
}

if {$verb eq "list"} {
  foreach name [array names ::testspec] {
    foreach f [dict get $::testspec($name) -files] { puts "$name [file tail $f]" }
  }
  exit 0
}

# Tests that ask whether the default VFS is "unix", because they need its system
# calls, are to run: ours passes them through.
rename load_testfixture_extensions suite_load
proc load_testfixture_extensions {interp} {
  suite_load $interp
  interp eval $interp {
    rename test_syscall suite_syscall
    proc test_syscall {args} {
      if {$args eq "defaultvfs"} { return unix }
      uplevel 1 suite_syscall $args
    }
  }
}

array set options $::testspec($suite)
set found {}
foreach f $options(-files) { if {[file tail $f] eq $file} { lappend found $f } }
set options(-files) $found
eval [list run_tests $suite] [array get options]
finish_test
