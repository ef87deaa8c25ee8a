// Command sqlite-test runs SQLite's own tests with verneuil as the default VFS and,
// in the same run, with the stock one: what stock passes must pass with ours.
//
// build.sh gets SQLite's source from the distribution and builds testfixture,
// mptester and threadtest3 with init.c linked in, so that one binary is stock, or
// loads the extension, as the environment says; its child processes likewise.
// suites.tcl lists and runs the TCL tests. Of mptest's scripts, copies are run, in which
// a line is left out that would end them for any VFS but "unix" (copyScripts).
//
// An item is one test file of one suite (a permutation), or one script of mptest in one
// journal mode, or one test of threadtest3. It runs twice, each time in a process
// and a directory of its own: stock, then ours, which replicates to a dir target
// with VERNEUIL_VALIDATE=1. Then the two outcomes are compared (see compare): which cases
// failed, and how many there were. In addition ours must log no error, so
// no failed validation and no panic; and when its processes have ended,
// verneuilctl flush must be able to send what they have left, and verneuilctl verify
// to find everything that the target's versions name.
//
// With -remote ours are databases that live in a store, a directory, by a VFS that remote.c in
// fixture puts in the place of the default one; remote.go says which files are run, and why not the
// others. In the end verneuilctl verify must find the store to be whole.
//
// What may differ is listed in exceptions.go, with the reason. The numbers of cases that make
// the Nth malloc fail are not compared: they are how often malloc is called.
//
// What is run whole, and what is cut, and by what rule, stands in item.go. A commit that
// could not be validated at that moment is no difference, but counted
// (verneuil_status()); that none could be is an error.
package main
