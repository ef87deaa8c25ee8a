package vfs

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
)

// LevelFromEnv returns the log level that the environment asks for:
// VERNEUIL_LOG, else RUST_LOG, else "error". RUST_LOG is shared with other
// programs and may hold a list such as "hyper=warn,info": of that, the entry for
// verneuil or for everything counts.
func LevelFromEnv() string {
	if level := os.Getenv("VERNEUIL_LOG"); level != "" {
		return level
	}
	level := "error"
	for entry := range strings.SplitSeq(os.Getenv("RUST_LOG"), ",") {
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

// hostStderr writes to the host's stderr. os.Stderr would end the host if that is a pipe
// which nobody reads (os, epipecheck).
type hostStderr struct{}

func (hostStderr) Write(b []byte) (int, error) {
	for {
		if n, err := syscall.Write(2, b); err != syscall.EINTR {
			return n, err
		}
	}
}

// NewLogger returns a logger that writes lines of text to w, from level on:
// error, warn, info, debug, or off. Any other level is an error; the logger
// returned with it is usable and logs errors. Loggers are safe for concurrent use.
func NewLogger(level string, w io.Writer) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: slog.LevelError}
	var err error
	switch strings.ToLower(strings.TrimSpace(level)) {
	case "off":
		return slog.New(slog.DiscardHandler), nil
	case "", "error":
	case "warn", "warning":
		options.Level = slog.LevelWarn
	case "info":
		options.Level = slog.LevelInfo
	case "debug", "trace":
		options.Level = slog.LevelDebug
	default:
		err = fmt.Errorf("log level %q: want error, warn, info, debug or off", level)
	}
	return slog.New(slog.NewTextHandler(w, options)), err
}
