package vfs

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const atSecure = 23 // AT_SECURE, elf.h

// secure reports whether the program runs with more rights than whoever has called it
// (setuid, setgid, capabilities): getauxval(3).
var secure = sync.OnceValue(func() bool {
	entries, err := unix.Auxv()
	for _, e := range entries {
		if e[0] == atSecure {
			return e[1] != 0
		}
	}
	return err != nil && (os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid())
})

// getenv is os.Getenv, except in a program that must not obey its caller.
func getenv(name string) string {
	if secure() {
		return ""
	}
	return os.Getenv(name)
}
