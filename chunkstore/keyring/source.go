package keyring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"verneuil/chunkstore"
)

const (
	// refreshInterval is how often a key file is looked at, at most, before something is sealed.
	refreshInterval = time.Second
	// commandInterval is how often a command is run, at most.
	commandInterval = time.Minute
	// commandTimeout bounds how long it may take.
	commandTimeout = 30 * time.Second
	// failedInterval is for how long a command that has failed is not run again: whoever asks
	// meanwhile gets the same error, and does not wait for it. Many databases may ask at once.
	failedInterval = 10 * time.Second
)

// Source is where a configuration has its keys from: a file, or what a command prints; neither: it
// has none.
type Source struct {
	File    string   // absolute
	Command []string // the program, absolute, and its arguments
}

// IsZero reports whether there are no keys.
func (s Source) IsZero() bool { return s.File == "" && len(s.Command) == 0 }

// Validate fails unless s is one source, or none, whose paths are absolute.
func (s Source) Validate() error {
	switch {
	case s.File != "" && len(s.Command) > 0:
		return errors.New("key_command: there is a key_file, too: give one of them")
	case s.File != "" && !filepath.IsAbs(s.File):
		return fmt.Errorf("key_file: %q is relative", s.File)
	case len(s.Command) > 0 && !filepath.IsAbs(s.Command[0]):
		return fmt.Errorf("key_command: %q is relative", s.Command[0])
	}
	return nil
}

// rings are those that this process has opened, by their sources: so that a command is run once.
var rings struct {
	mu sync.Mutex
	of map[string]*opening
}

// opening is a source that somebody has asked for.
type opening struct {
	mu     sync.Mutex // held while it is read: who has another source does not wait for it
	sealer Sealer     // of the last success
	err    error      // of a command that has failed
	failed time.Time  // when it did
}

// openingOf returns that of a source.
func openingOf(s Source) *opening {
	name := strings.Join(append([]string{s.File}, s.Command...), "\x00")
	rings.mu.Lock()
	defer rings.mu.Unlock()
	o := rings.of[name]
	if o == nil {
		if rings.of == nil {
			rings.of = make(map[string]*opening)
		}
		o = new(opening)
		rings.of[name] = o
	}
	return o
}

// Open returns what seals with the keys of s; [chunkstore.Plain] if there are none. It reads them,
// and may wait for a disk, or for the command, which is not run again within [failedInterval] after
// it has failed. Later it reads them again, when they have changed (K5); log is told then, that of
// the first call for s; nil: nobody is. Its errors begin with the configuration's key.
func Open(s Source, log *slog.Logger) (chunkstore.Sealer, error) {
	if s.IsZero() {
		return chunkstore.Plain{}, nil
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	o := openingOf(s)
	o.mu.Lock()
	defer o.mu.Unlock()
	var from source = &file{path: s.File}
	if len(s.Command) > 0 {
		if o.known() {
			return o.sealer, nil
		}
		if o.err != nil && time.Since(o.failed) < failedInterval {
			return nil, o.err
		}
		from = &command{args: s.Command}
	}
	keys, err := from.read()
	if err != nil {
		o.err, o.failed = fmt.Errorf("%s: %w", from, err), time.Now()
		return nil, o.err
	}
	if o.known() && o.sealer.r.name == keys.Ring() {
		o.sealer.r.reload()
		return o.sealer, nil
	}
	o.sealer = New(keys)
	o.sealer.r.source = &watched{source: from, log: log, looked: time.Now()}
	return o.sealer, nil
}

// known reports whether it was opened before.
func (o *opening) known() bool { return o.sealer.r != nil }

// source is where keys are read from.
type source interface {
	// read returns the keys.
	read() (*Keys, error)
	// changed reports whether read may return others than it has. It is fast. forced: somebody has
	// met a key that is not among them.
	changed(forced bool) bool
	fmt.Stringer // as in "key_file /etc/verneuil.keys"
}

// watched is a source that may change.
type watched struct {
	source
	log    *slog.Logger
	mu     sync.Mutex
	looked time.Time
	told   string
}

// refresh reads the keys again if the key file has changed, and that was not looked for lately. It
// does not wait for another one that does.
func (r *ring) refresh() {
	w, _ := r.source.(*watched)
	if w == nil || !w.mu.TryLock() {
		return
	}
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.looked) >= refreshInterval {
		w.looked = now
		r.readLocked(w, false)
	}
}

// reload reads the keys again if they may have changed, as one that is not among them was met. It
// returns those that are there then.
func (r *ring) reload() *opened {
	if w, _ := r.source.(*watched); w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		r.readLocked(w, true)
	}
	return r.now.Load()
}

func (r *ring) readLocked(w *watched, forced bool) {
	if !w.changed(forced) {
		return
	}
	keys, err := w.read()
	if err == nil && keys.Ring() != r.name {
		err = fmt.Errorf("it has the ring %s now, and had %s: what was read so far counts, until "+
			"the program is started anew", keys.Ring(), r.name)
	}
	if err == nil {
		if keys.names() != r.now.Load().keys.names() {
			w.log.Info("the keys have changed", "source", w.String(), "keys", keys.names())
			r.now.Store(open(keys))
		}
		w.told = ""
	} else if err.Error() != w.told {
		w.told = err.Error()
		w.log.Warn("the keys were not read again", "source", w.String(), "error", err)
	}
}

// file is a key file.
type file struct {
	path string
	is   stamp // when it was last read
}

// stamp is what stat says of a file.
type stamp struct {
	inode          uint64
	bytes, changed int64
}

func stampOf(info os.FileInfo) stamp {
	st, _ := info.Sys().(*syscall.Stat_t)
	return stamp{st.Ino, info.Size(), info.ModTime().UnixNano()}
}

func (f *file) String() string { return "key_file " + f.path }

func (f *file) changed(bool) bool {
	info, err := os.Stat(f.path)
	return err == nil && stampOf(info) != f.is
}

func (f *file) read() (*Keys, error) {
	opened, err := os.Open(f.path)
	if err != nil {
		return nil, readable(err)
	}
	defer opened.Close()
	info, err := opened.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(opened, keysBytesMax+1))
	if err != nil {
		return nil, err
	}
	keys, err := Parse(text)
	if err == nil {
		f.is = stampOf(info)
	}
	return keys, err
}

// readable says what to do about a key file that cannot be opened.
func readable(err error) error {
	var inPath *os.PathError
	if errors.As(err, &inPath) {
		err = inPath.Err // our caller names the path
	}
	return fmt.Errorf("%w: put the key file there that the store was written with (for a new "+
		"store, make one by verneuilctl key new)", err)
}

// command prints a key file.
type command struct {
	args []string
	ran  time.Time
}

func (c *command) String() string { return "key_command " + c.args[0] }

func (c *command) changed(forced bool) bool {
	return forced && time.Since(c.ran) >= commandInterval
}

func (c *command) read() (*Keys, error) {
	c.ran = time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	run := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	run.WaitDelay = time.Second // a child of its own may have the pipe
	out, said := limited{ends: true}, limited{}
	run.Stdout, run.Stderr = &out, &said
	err := run.Run()
	if errors.Is(err, syscall.ECHILD) { // the host waits for all children, ours too
		err = nil
	}
	if len(out.b) > keysBytesMax {
		err = nil // Parse says it
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("it has not ended in %v", commandTimeout)
	}
	if err != nil {
		if line, _, _ := strings.Cut(strings.TrimSpace(string(said.b)), "\n"); line != "" {
			err = fmt.Errorf("%w: it says %.200q", err, line)
		}
		return nil, err
	}
	keys, err := Parse(out.b)
	if err != nil {
		return nil, fmt.Errorf("what it prints: %w", err)
	}
	return keys, nil
}

// limited keeps the first bytes that are written to it: a little more than a key file may have.
type limited struct {
	b    []byte
	ends bool // who writes more is told that nobody reads it, as by a closed pipe
}

func (l *limited) Write(p []byte) (int, error) {
	room := max(0, keysBytesMax+1-len(l.b))
	l.b = append(l.b, p[:min(len(p), room)]...)
	if l.ends && len(p) > room {
		return room, io.ErrShortWrite
	}
	return len(p), nil
}
