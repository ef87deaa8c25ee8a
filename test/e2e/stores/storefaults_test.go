package stores_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/faultproxy"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/s3"
	"verneuil/replicate/upkeep"
	"verneuil/test/crash"
	"verneuil/test/e2e/harness"
)

// These tests fail each request to a store in each way, once and for good, in front of a
// real MinIO, for the real programs: an application, verneuilctl's commands, a replica.
// VERNEUIL_FAULT_STRIDE=1 takes all of it, and adds servers that never answer; without it some
// is taken, from a random start, of the cases that differ most. VERNEUIL_STORE_CASE names one.

const storeWorkers = 8 // they wait for retries, mostly

// storeFault is one way in which a request fails.
type storeFault struct {
	name  string
	fault faultproxy.Fault
}

func storeFaults() []storeFault {
	all := []storeFault{
		{"400", faultproxy.Fault{Status: http.StatusBadRequest}},
		{"403", faultproxy.Fault{Status: http.StatusForbidden}},
		{"404", faultproxy.Fault{Status: http.StatusNotFound}},
		{"404 page", faultproxy.Fault{Status: http.StatusNotFound, Page: true}},
		{"409", faultproxy.Fault{Status: http.StatusConflict}},
		{"412", faultproxy.Fault{Status: http.StatusPreconditionFailed}},
		{"500", faultproxy.Fault{Status: http.StatusInternalServerError}},
		{"503", faultproxy.Fault{Status: http.StatusServiceUnavailable}},
		{"502 page", faultproxy.Fault{Status: http.StatusBadGateway, Page: true}},
		{"page", faultproxy.Fault{Page: true}},
		{"empty", faultproxy.Fault{Empty: true}},
		{"reset", faultproxy.Fault{Reset: true}},
		{"lose", faultproxy.Fault{Lose: true}},
		{"cut", faultproxy.Fault{Cut: true}},
		{"short", faultproxy.Fault{Short: true}},
		{"flip", faultproxy.Fault{Flip: true}},
	}
	if crash.Chosen() {
		all = append(all, storeFault{"hold", faultproxy.Fault{Hold: make(chan struct{})}})
	}
	return all
}

// storeTrial is one failure: of the request at, and of all later ones if good.
type storeTrial struct {
	storeFault
	at   int
	good bool
}

func (r storeTrial) String() string {
	return fmt.Sprintf("request %d %s%s", r.at, r.name, map[bool]string{true: " for good"}[r.good])
}

// plan: a list has no checksum, so that bits of it are left as they are.
func (r storeTrial) plan(n int, request *http.Request) faultproxy.Fault {
	list := request.Method == http.MethodGet && strings.Count(strings.Trim(request.URL.Path, "/"),
		"/") == 0
	if (n == r.at || r.good && n > r.at) && !(list && r.fault.Flip) {
		return r.fault
	}
	return faultproxy.Fault{}
}

// storeWorld is a site whose store is behind a proxy.
type storeWorld struct {
	*harness.Site
	endpoint string
	proxy    *faultproxy.Proxy
	second   bool // a second target, in which nothing fails
	rows     int  // of the database
	trials   int  // so far: each has buckets of its own
	journal  string
	fds      int // of a host, when nothing fails
	shell    *harness.Process
	opened   bool   // the replica is, in shell
	said     string // what act returned when nothing failed
	requests int    // of the trial, and how many failed
	faults   int
	ended    bool // nothing fails any more
	dangling atomic.Pointer[error]
}

// storeCase is what is done under faults. All of it is called with w.t set.
type storeCase struct {
	name   string
	short  bool                       // taken in the short form
	second bool                       // there is a second target, in which nothing fails
	rows   int                        // of the database: see written
	begin  func(w *storeWorld)        // before; nothing fails
	act    func(w *storeWorld) string // what it returns is the same whenever nothing failed
	after  func(w *storeWorld)        // nothing fails any more
}

func newStoreWorld(t *testing.T, endpoint, dir string, c storeCase) *storeWorld {
	w := &storeWorld{Site: &harness.Site{T: t, Dir: dir}, endpoint: endpoint,
		proxy: faultproxy.Start(t, endpoint), second: c.second, rows: c.rows}
	harness.Must(t, os.Mkdir(dir, 0o700))
	w.proxy.After(func(r *http.Request) {
		if r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/manifests-") &&
			strings.Contains(r.URL.Path, "verneuil") {
			if err := w.walk(); err != nil {
				w.dangling.CompareAndSwap(nil, &err)
			}
		}
	})
	return w
}

// fresh gives the world empty buckets, and a name for a database, at which there is none.
func (w *storeWorld) fresh() {
	w.trials++
	w.journal = harness.Journals[w.trials%len(harness.Journals)]
	target := func(endpoint, name string) any {
		return map[string]any{"s3": map[string]any{
			"region": "minio", "endpoint": endpoint, "create_buckets_on_demand": true,
			"chunk_bucket":    "chunks-" + w.name() + name,
			"manifest_bucket": "manifests-" + w.name() + name,
		}}
	}
	w.Targets = []any{target(w.proxy.URL, "")}
	if w.second {
		w.Targets = append(w.Targets, target(w.endpoint, "-2"))
	}
	w.Targets = append(w.Targets,
		map[string]any{"local": map[string]any{"directory": w.Path("cache"), "num_shards": 2,
			"capacity": 100}})
	w.Configure(map[string]any{"tempdir": w.Dir, "snapshot_read_deadline_ms": 3000})
	w.emptied("cache", "spool")
}

// endFaults ends the faults.
func (w *storeWorld) endFaults() {
	if !w.ended {
		w.faults, w.requests, w.ended = w.proxy.Faults(), w.proxy.Requests(), true
		w.proxy.Set(nil)
	}
}

// emptied removes directories of the world.
func (w *storeWorld) emptied(names ...string) {
	for _, name := range names {
		harness.Must(w.T, os.RemoveAll(w.Path(name)))
	}
}

func (w *storeWorld) name() string { return fmt.Sprintf("%s-%d", filepath.Base(w.Dir), w.trials) }
func (w *storeWorld) db() string   { return w.name() + ".db" }

// walk looks for all that the manifests in the world's store name, past the proxy.
func (w *storeWorld) walk() error {
	store, err := chunkstore.Open(context.Background(), []chunkstore.TargetConfig{&s3.Config{
		Region: "minio", Endpoint: w.endpoint, CreateBucketsOnDemand: true,
		ChunkBucket: "chunks-" + w.name(), ManifestBucket: "manifests-" + w.name(),
	}}, chunkstore.Options{CallsPerSecond: -1})
	if err != nil {
		return err
	}
	var keys []string
	err = store.Targets[0].Manifests.List(context.Background(), "", func(o chunkstore.Object) bool {
		keys = append(keys, o.Key)
		return true
	})
	verifier := upkeep.NewVerifier(store.Targets[0], upkeep.VerifyOptions{Read: true})
	for _, key := range keys {
		m, namedErr := verifier.Named(context.Background(), key)
		if namedErr != nil {
			return errors.Join(err, namedErr)
		}
		faults, verifyErr := verifier.Verify(context.Background(), m)
		err = errors.Join(err, verifyErr, errors.Join(faults...))
	}
	return err
}

// mustNotDangle: nothing does, and nothing did when a manifest was put.
func (w *storeWorld) mustNotDangle() {
	w.T.Helper()
	if err := w.walk(); err != nil {
		w.T.Fatalf("in the target: %v", err)
	}
	if err := w.dangling.Swap(nil); err != nil {
		w.T.Fatalf("in the target, when a manifest was put: %v", *err)
	}
}

// command runs verneuilctl, of which an error must name target and object.
func (w *storeWorld) command(args ...string) harness.Result {
	w.T.Helper()
	r := harness.Run(w.T, nil, append([]string{harness.Built(w.T, "VERNEUIL_CTL"), "-c",
		w.Config()}, args...)...)
	// What stands in the log, that a store does not answer, is no answer.
	answer := ""
	for line := range strings.Lines(r.Stderr) {
		if !strings.HasPrefix(line, "verneuil: ") {
			answer += line
		}
	}
	said := answer + r.Stdout
	named := strings.Contains(said, "chunks-"+w.name()) ||
		strings.Contains(said, "manifests-"+w.name())
	switch {
	case r.Code != 0 && r.Code != 1, r.Code == 0 && answer != "":
		w.T.Fatalf("%q: exit code %d: %s%s", args, r.Code, r.Stdout, r.Stderr)
	case r.Code == 1 && (strings.Count(answer, "\n") != 1 || !named ||
		!strings.Contains(said, w.proxy.URL)):
		w.T.Fatalf("%q: not one line that names target and object: %s%s", args, r.Stdout, r.Stderr)
	}
	return r
}

// host is a shell with that log level; stock: without the extension.
func (w *storeWorld) host(log string) *harness.Process {
	w.T.Helper()
	stock := log == "stock"
	shell := harness.Start(w.T, []string{w.Env(), "VERNEUIL_LOG=" + log}, harness.SQLiteShell(w.T),
		"-batch")
	if !stock {
		shell.Must(".load " + harness.Library(w.T))
	}
	return shell
}

// descriptors counts the descriptors of a host, and waits until they are not more than they
// were when nothing failed: what is fetched ahead, in the background, has some for a moment.
// Connections are kept, but not more than are used at once.
func (w *storeWorld) descriptors(shell *harness.Process) {
	w.T.Helper()
	var files []string
	sockets := 0
	defer func() {
		if w.T.Failed() {
			w.T.Logf("%d files, %d when nothing fails; %d sockets: %q", len(files), w.fds, sockets,
				files)
		}
	}()
	harness.Until(w.T, "no more descriptors than when nothing fails", func() bool {
		files, sockets = harness.OpenFiles(w.T, shell.Command.Process.Pid)
		w.fds = cmp.Or(w.fds, len(files))
		return len(files) <= w.fds && sockets <= 40
	})
}

// spoolBytes is the size of the world's spools.
func (w *storeWorld) spoolBytes() (bytes int64) {
	w.T.Helper()
	harness.Must(w.T, filepath.WalkDir(w.Path("spool"),
		func(_ string, e fs.DirEntry, err error) error {
			if info, infoErr := e.Info(); err == nil && infoErr == nil && e.Type().IsRegular() {
				bytes += info.Size()
			}
			return nil
		}))
	return bytes
}

// TestStoreFaults: whatever the store does, the application sees what it would see
// without it; a command does all or says what is wrong; a replica shows what is there, or
// nothing; nothing dangles; and when the store is well again, all is as if it had
// always been.
func TestStoreFaults(t *testing.T) {
	harness.Library(t)
	first, step := harness.Stride(t, 149)
	endpoint := miniotest.Start(t)
	harness.EmptySite(t) // for the environment
	dir, err := filepath.EvalSymlinks(t.TempDir())
	harness.Must(t, err)
	workers := make(chan func(), storeWorkers)
	var running sync.WaitGroup
	for range storeWorkers {
		running.Go(func() {
			for do := range workers {
				do()
			}
		})
	}
	next := first
	for k, c := range storeCases() {
		if only := os.Getenv("VERNEUIL_STORE_CASE"); only != "" && only != c.name ||
			only == "" && !c.short && !crash.Chosen() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			worlds := make(chan *storeWorld, storeWorkers)
			for i := range storeWorkers {
				worlds <- newStoreWorld(t, endpoint,
					filepath.Join(dir, fmt.Sprintf("w%d-%d", k, i)), c)
			}
			w := <-worlds
			requests := c.calm(t, w)
			worlds <- w
			var struck, faults atomic.Int64
			var trials sync.WaitGroup
			n := 0
			for _, r := range allTrials(requests) {
				if next--; next > 0 {
					continue
				}
				next = step
				n++
				trials.Add(1)
				workers <- func() {
					defer trials.Done()
					w := <-worlds
					defer func() { worlds <- w }()
					t.Run(r.String(), func(t *testing.T) {
						hit := c.trial(t, w, r)
						faults.Add(int64(hit))
						if hit > 0 {
							struck.Add(1)
						}
					})
				}
			}
			trials.Wait()
			t.Logf("%d requests when nothing fails; %d trials, %d with a fault, %d faults",
				requests, n, struck.Load(), faults.Load())
		})
	}
	close(workers)
	running.Wait()
}

// allTrials are all ways to fail one of so many requests, and those after it.
func allTrials(requests int) (all []storeTrial) {
	for at := 1; at <= requests; at++ {
		for _, f := range storeFaults() {
			all = append(all, storeTrial{f, at, false}, storeTrial{f, at, true})
		}
	}
	return all
}

// calm runs the case when nothing fails, and returns how many requests it takes.
func (c storeCase) calm(t *testing.T, w *storeWorld) (requests int) {
	w.T = t
	w.said = ""
	if faults := c.run(w, func(int,
		*http.Request) faultproxy.Fault {
		return faultproxy.Fault{}
	}); faults > 0 {
		t.Fatalf("%d faults", faults)
	}
	return w.requests
}

// trial runs the case with a failure, and returns how many requests failed.
func (c storeCase) trial(t *testing.T, w *storeWorld, r storeTrial) (faults int) {
	if w.said == "" {
		c.calm(t, w)
	}
	w.T = t
	calm := w.said
	faults = c.run(w, r.plan)
	if faults == 0 && w.said != calm {
		t.Errorf("nothing failed, and it says %q, not %q", w.said, calm)
	}
	if w.requests > 1000 {
		t.Errorf("%d requests", w.requests)
	}
	w.said = calm
	return faults
}

func (c storeCase) run(w *storeWorld, plan faultproxy.Plan) (faults int) {
	w.proxy.Set(nil)
	c.begin(w)
	w.ended = false
	w.proxy.Set(plan)
	said := c.act(w)
	w.endFaults()
	w.mustNotDangle()
	c.after(w)
	w.mustNotDangle()
	w.said = said
	return w.faults
}
