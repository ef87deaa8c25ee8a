package vfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"verneuil/replicate/backoff"
	"verneuil/spool"
)

// keepEvery is how often a keeper looks for spools that it was not told of.
const keepEvery = 5 * time.Second

// Keep replicates each database that has a spool in root, as soon as there is one, until ctx ends.
// What other processes replicate it leaves to them until they end. Then it sends what is unsent,
// for at most timeout, and returns. It is for a process that does nothing else.
func Keep(
	ctx context.Context, cfg *Config, log *slog.Logger, root string, timeout time.Duration,
) error {
	e := newEngine(cfg, nil, log)
	if store, err := e.stores.forWriting(); err != nil {
		return err
	} else if len(store.Targets) == 0 {
		return errNoTargets
	}
	root, err := filepath.Abs(root)
	if err == nil {
		err = os.MkdirAll(root, spool.RootMode(e.cfg.SpoolingDirPermissions))
	}
	if err != nil {
		return err
	}
	k := &keeper{root: root, services: e.services, log: e.log, kept: make(map[string]bool)}
	go (&adoption{root, e.services, e.children, e.log, e.panics}).sweep()
	err = k.keep(ctx)
	last, cancel := context.WithTimeout(context.Background(), min(timeout, e.cfg.StoreTimeout))
	defer cancel()
	e.services.exit(last)
	return err
}

// keeper serves the spools of a directory. It belongs to one goroutine.
type keeper struct {
	root     string
	services *services
	log      *slog.Logger
	kept     map[string]bool // the spools that are served
	told     string          // the error that the log has
}

// keep serves what is there and what comes. The kernel tells of a new directory; the spool in it is
// there some moments later. Should it not tell, a look every few seconds finds the spool.
func (k *keeper) keep(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(k.root)
	}
	if err != nil {
		return fmt.Errorf("watch %s: %w", k.root, err)
	}
	defer watcher.Close()
	soon := backoff.Backoff{First: 5 * time.Millisecond, Most: keepEvery}
	for {
		k.look()
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-watcher.Events:
			if !ok {
				return errors.New("watch: it has ended")
			}
			soon.Reset()
		case <-watcher.Errors: // events were lost
			soon.Reset()
		case <-time.After(soon.Next()):
		}
	}
}

// look begins to serve the spools that are new, and ends with those that are gone.
func (k *keeper) look() {
	dirs, err := spool.List(k.root)
	if err != nil {
		if err.Error() != k.told {
			k.log.Error("the spools cannot be listed", "error", err)
		}
		k.told = err.Error()
		return
	}
	k.told = ""
	there := make(map[string]bool, len(dirs))
	for _, dir := range dirs {
		there[dir] = true
		if !k.kept[dir] {
			k.kept[dir] = true
			k.log.Info("a spool is served", "spool", dir)
			k.services.open(dir)
		}
	}
	for dir := range k.kept {
		if !there[dir] {
			delete(k.kept, dir)
			k.services.closed(dir)
		}
	}
}
