// Package harness is what the end-to-end tests share. They load the extension that make has
// built into real hosts: the sqlite3 shell, a C program that forks (test/hosts/host.c), Python
// and others. A Site is where a test tries things, a Process a host that it talks to.
//
// Only the tests in test/e2e import it. It knows no room of the product: what it starts is what
// users have, built by make and named by the variables VERNEUIL_LIB and VERNEUIL_CTL.
//
// Its functions fail the test, so that callers check nothing; they are called on the test's
// goroutine. What they start ends with the test. Packages of tests run side by side: nothing here
// writes to a place that two of them share, but for programs, which appear whole.
//
// The tests' working directory is test/e2e/PACKAGE.
package harness
