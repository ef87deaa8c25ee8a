package vfs

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// LevelFromEnv returns the log level that the environment asks for:
// VERNEUIL_LOG, else RUST_LOG, else "warn". Other programs use RUST_LOG, too, and it may contain a
// list such as "hyper=warn,info": the entry for verneuil, or for everything, counts.
func LevelFromEnv() string {
	if level := getenv("VERNEUIL_LOG"); level != "" {
		return level
	}
	level := "warn"
	for entry := range strings.SplitSeq(getenv("RUST_LOG"), ",") {
		target, l, found := strings.Cut(strings.TrimSpace(entry), "=")
		switch {
		case found && target == "verneuil":
			return l
		case !found && target != "":
			level = target
		}
	}
	return level
}

// Stderr writes to the process's stderr. Package cgo replaces it before the engine starts: in
// a host, Go's threads have descriptors of their own. If stderr is a pipe that nobody reads,
// os.Stderr would end the host (os, epipecheck). If the pipe is full, Stderr does not wait: the
// line is lost.
var Stderr = func(b []byte) {
	if n, err := unix.Poll([]unix.PollFd{{Fd: 2, Events: unix.POLLOUT}}, 0); n == 0 && err == nil {
		return
	}
	for {
		if _, err := syscall.Write(2, b); err != syscall.EINTR {
			return
		}
	}
}

type hostStderr struct{}

func (hostStderr) Write(b []byte) (int, error) {
	if len(b) > 0 {
		Stderr(b)
	}
	return len(b), nil
}

// lines writes lines that begin with our name: everybody writes to a host's stderr.
type lines struct{ w io.Writer }

// Write gets a line at a time from slog's handler, and passes it on in one piece.
func (l lines) Write(b []byte) (int, error) {
	if _, err := l.w.Write(append([]byte("verneuil: "), b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// inUTC writes times as the C side does, which does not ask for the time zone (cgo/log.c).
func inUTC(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		a.Value = slog.TimeValue(a.Value.Time().UTC())
	}
	return a
}

// NewLogger returns a logger that writes lines of text to w, from level on:
// error, warn (or empty), info, debug, or off. Any other level is an error; the logger
// returned with it is usable and logs warnings. Loggers are safe for concurrent use. A line is
//
//	verneuil: time=2026-11-28T22:18:00.123Z level=WARN msg="what is said" key=value …
func NewLogger(level string, w io.Writer) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: inUTC}
	var err error
	switch strings.ToLower(strings.TrimSpace(level)) {
	case "off":
		return slog.New(slog.DiscardHandler), nil
	case "", "warn", "warning":
	case "error":
		options.Level = slog.LevelError
	case "info":
		options.Level = slog.LevelInfo
	case "debug", "trace":
		options.Level = slog.LevelDebug
	default:
		err = fmt.Errorf("log level %q: want error, warn, info, debug or off", level)
	}
	var handler slog.Handler = slog.NewTextHandler(lines{w}, options)
	if options.Level.Level() >= slog.LevelWarn {
		handler = newCalm(handler, time.Now)
	}
	return slog.New(handler), err
}
