package spool

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Token names a process in the state page: 10 bits of its PID namespace, 22 of its number there
// (the kernel has no larger ones), 32 of its start time. 0 is no process.
type Token uint64

const (
	pidBits       = 22
	namespaceBits = 10
)

// PID returns the process's number, in its namespace.
func (t Token) PID() int { return int(t >> 32 & (1<<pidBits - 1)) }

// namespace returns the bits that distinguish PID namespaces: containers that share a spool may
// have processes with the same number and start time.
func (t Token) namespace() uint64 { return uint64(t) >> (32 + pidBits) }

// ownNamespace returns those of this process, 0 if they cannot be read.
func ownNamespace() uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &st) != nil {
		return 0
	}
	return st.Ino & (1<<namespaceBits - 1)
}

var selfPID, selfToken = struct {
	sync.Mutex
	pid int
}{}, Token(0)

// Self returns this process's token, also in a child of fork.
func Self() (Token, error) {
	selfPID.Lock()
	defer selfPID.Unlock()
	if pid := os.Getpid(); selfPID.pid != pid {
		start, _, err := processStart(pid)
		if err != nil {
			return 0, err
		}
		selfPID.pid, selfToken = pid, makeToken(ownNamespace(), pid, start)
	}
	return selfToken, nil
}

func makeToken(namespace uint64, pid int, start uint64) Token {
	return Token(namespace<<(32+pidBits) | uint64(pid)<<32 | start&0xffffffff)
}

// Alive reports whether the process still runs, as far as its number tells. About a process in
// another PID namespace it tells nothing: only the kernel's locks do. A process whose state cannot
// be read counts as alive: what depends on its death can wait. A zombie counts as dead.
func (t Token) Alive() bool {
	alive, _ := t.look()
	return alive
}

// look is Alive, and the state of a process that is; 0: it cannot be read.
func (t Token) look() (alive bool, state byte) {
	if t == 0 || t.namespace() != ownNamespace() {
		return false, 0
	}
	start, state, err := processStart(t.PID())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, 0
	case err != nil:
		return true, 0
	}
	return makeToken(t.namespace(), t.PID(), start) == t && state != 'Z' && state != 'X', state
}

// Stopped reports whether t's process is stopped, by a signal or a debugger: nobody knows for how
// long it will do nothing. Of one in another PID namespace it is not known.
func (t Token) Stopped() bool {
	alive, state := t.look()
	return alive && (state == 'T' || state == 't')
}

// processStart reads field 22 of /proc/PID/stat, clock ticks since boot, and the
// state in field 3. Field 2, the command's name in brackets, may hold anything.
func processStart(pid int) (start uint64, state byte, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		if errors.Is(err, syscall.ESRCH) { // it ended between open and read
			err = fs.ErrNotExist
		}
		return 0, 0, fmt.Errorf("process %d: %w", pid, err)
	}
	end := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	if end < 0 || len(fields) < 20 {
		return 0, 0, fmt.Errorf("process %d: unreadable stat", pid)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("process %d: start time: %w", pid, err)
	}
	return start, fields[0][0], nil
}

// bootID returns the kernel's boot ID; all zeros if it cannot be read. Then no state is valid.
func bootID() (id [16]byte) {
	if known := knownBootID.Load(); known != nil {
		return *known
	}
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id // descriptors may have run out: the next call tries again
	}
	b, _ := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	copy(id[:], b)
	knownBootID.Store(&id)
	return id
}

var knownBootID atomic.Pointer[[16]byte]
