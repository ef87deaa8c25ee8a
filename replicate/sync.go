package replicate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"verneuil/chunkstore"
	"verneuil/replicate/courier"
	"verneuil/replicate/mirror"
	"verneuil/spool"
	"verneuil/spool/sqlitefile"
)

// SyncOptions of [Sync]. All but Permissions, Program, Concurrency, Source, Damage,
// Progress and Log are needed.
type SyncOptions struct {
	Store       *chunkstore.Store
	Root        string      // the replication_spooling_dir
	Permissions fs.FileMode // of Root, if it is made; 0: 0700
	DBPath      string      // canonical
	Host        string
	Program     string
	Concurrency int

	// OpenSource opens the database, which must not change until Sync returns: the
	// caller holds a read transaction. A WAL database is presented as checkpointed.
	OpenSource func() (mirror.Source, error)
	Seen       mirror.Seen // the database's files, from [mirror.See] before that transaction began

	Source *spool.SourceConfig // for source.json; nil: do not write it
	// Damage is what was found in targets, and is put again: by the target's place in Store.
	Damage map[int]Damage
	// Progress is told of "copy", "copy and push" and "push", in bytes, by one call at a time.
	Progress func(phase string, done, total int64)
	Log      *slog.Logger
}

// Damage is what somebody who has read a target found to be damaged there. Its Target and Found are
// filled in by [Sync].
type Damage = courier.Damage

// SyncResult says what a [Sync] has done.
type SyncResult struct {
	Name     string // the manifest's key
	Uploaded bool   // something was: a version at least
	Chunks   int    // chunks put, over all targets
	Bytes    int64  // sent, over all targets
	Calls    int64  // requests sent
	Other    int    // the process that did it, as it replicates the database; 0: we did
}

// Sync brings the database as it is now to every target, and returns when all
// have it. An unchanged database is neither read nor compared, and costs at most seven requests
// per target: for its manifest, the last record and the next one, the chunk bucket's identity, and
// three packs picked at random. If another process replicates the database, it is asked to; it
// fails with ErrOtherPurpose if that one does so for another host name or other targets.
func Sync(ctx context.Context, o SyncOptions) (SyncResult, error) {
	result, err := doSync(ctx, o)
	if err != nil {
		return SyncResult{}, fmt.Errorf("sync %s: %w", o.DBPath, err)
	}
	return result, nil
}

func doSync(ctx context.Context, o SyncOptions) (SyncResult, error) {
	if len(o.Store.Targets) == 0 {
		return SyncResult{}, ErrNoTargets
	}
	if o.Permissions == 0 {
		o.Permissions = 0o700
	}
	sp, err := spool.Create(o.Root, o.DBPath, o.Permissions)
	if err != nil {
		return SyncResult{}, err
	}
	r, err := New(Options{
		Spool: sp, Store: o.Store, Host: o.Host, Program: o.Program, Concurrency: o.Concurrency,
		OpenSource: o.OpenSource, Progress: o.Progress, Log: o.Log, Reported: true, still: &o.Seen,
	})
	if err != nil {
		return SyncResult{}, err
	}
	if err := noteDamage(sp, &o); err != nil {
		return SyncResult{}, err
	}
	calls := o.Store.Calls()
	y := &syncing{Replicator: r, sp: sp, source: o.Source}
	for moved := true; moved; {
		moved, err = y.once(ctx)
		if err == nil && moved {
			err = ctx.Err()
		}
		if err != nil {
			return SyncResult{}, err
		}
	}
	result := SyncResult{Name: r.Name(), Other: y.other}
	c := &r.sent
	result.Uploaded = c.Manifests.Load()+c.Records.Load() > 0
	result.Chunks, result.Bytes = int(c.Chunks.Load()), c.Bytes.Load()
	result.Calls = o.Store.Calls() - calls
	return result, nil
}

// noteDamage leaves in the spool what was found to be damaged, beside what others have.
func noteDamage(sp *spool.Spool, o *SyncOptions) error {
	if len(o.Damage) == 0 {
		return nil
	}
	all := courier.ReadDamage(sp)
	if all == nil {
		all = make(map[string]Damage)
	}
	for k, t := range o.Store.Targets {
		if found, ok := o.Damage[k]; ok {
			id := courier.TargetID(t)
			found.Target, found.Found = t.Name, time.Now().UTC()
			found.Packs = append(found.Packs, all[id].Packs...)
			slices.Sort(found.Packs)
			found.Packs = slices.Compact(found.Packs)
			all[id] = found
		}
	}
	if err := courier.WriteDamage(sp, all); err != nil {
		return fmt.Errorf("note what is damaged: %w", err)
	}
	return nil
}

// syncing is a Sync on its way.
type syncing struct {
	*Replicator
	sp     *spool.Spool
	source *spool.SourceConfig // for source.json; nil: it is not written
	other  int                 // the process that was asked last; 0: we did it
}

// once has the database synced by whoever can replicate it now. moved says that this is somebody
// else now.
func (y *syncing) once(ctx context.Context) (moved bool, err error) {
	lock, err := y.sp.TryLock()
	switch {
	case err == nil:
		defer lock.Unlock()
		y.other = 0
		if y.source != nil {
			if err := y.sp.WriteSourceConfig(*y.source); err != nil {
				return false, err
			}
		}
		return false, y.here(ctx, lock)
	case errors.Is(err, spool.ErrLocked):
		y.other = spool.Token(y.sp.State().Replicator.Load()).PID()
		return y.there(ctx)
	}
	return false, err
}

// here replicates until every target has everything, or has failed.
func (y *syncing) here(ctx context.Context, lock *spool.Lock) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		_, err := y.serve(ctx, y.sp, lock)
		served <- err
	}()
	for {
		now := y.look()
		if now.loop != nil {
			moved, err := now.loop.flush(ctx, manner{trust: courier.FlushTrust,
				chain: courier.FlushTrust, tidy: courier.SyncRecords})
			cancel()
			if end := <-served; moved {
				err = end
			}
			return err
		}
		select {
		case <-now.changed:
		case err := <-served:
			return err
		}
	}
}

// otherInterval bounds how long the death of the process that we asked goes
// unnoticed.
const otherInterval = time.Second

// there asks the process that holds the lock. It cannot know what was
// written without a recorder before the next recorded transaction: we can.
func (y *syncing) there(ctx context.Context) (moved bool, err error) {
	sp := y.sp
	src, err := y.o.OpenSource()
	if err != nil {
		return false, fmt.Errorf("open database: %w", err)
	}
	h, st := sqlitefile.ReadHeader(src), sp.State()
	src.Close()
	now, err := spool.StampOf(sp.Path())
	if err != nil {
		return false, fmt.Errorf("look at database: %w", err)
	}
	version := spool.DatabaseVersion(h.ChangeCounter())
	if same, _ := st.AsLeft(now); !h.WAL() && (!same || st.DBVersion.Load() != version) {
		st.Raise(spool.CauseForeign)
	}
	// The lock is tried now and then: its holder may have died.
	changed := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		ticker := time.NewTicker(otherInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if !elsewhere(sp) {
					close(changed)
					return
				}
			}
		}
	}()
	return y.flushThere(ctx, sp, changed)
}
