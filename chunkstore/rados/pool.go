package rados

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"verneuil/cgo/librados"
	"verneuil/chunkstore"
)

// client is one client of a cluster, which all targets of this process share that are the same
// user of the same cluster. It connects when it is needed, and anew when the cluster has put it on
// its blocklist.
type client struct {
	options librados.Options

	mu         sync.Mutex
	cluster    *librados.Cluster // nil: not connected
	connecting chan struct{}     // closed when an attempt has ended; nil: none is under way
	err        error             // of the last attempt
}

var clients struct {
	mu  sync.Mutex
	all map[librados.Options]*client
}

func clientOf(cfg *Config, opts chunkstore.Options) *client {
	o := cfg.options().Resolved()
	o.Timeout = opts.Timeout
	clients.mu.Lock()
	defer clients.mu.Unlock()
	if clients.all == nil {
		clients.all = make(map[librados.Options]*client)
	}
	c := clients.all[o]
	if c == nil {
		c = &client{options: o}
		clients.all[o] = c
	}
	return c
}

// get returns the connected client. Of several who wait for it one connects.
func (c *client) get(ctx context.Context) (*librados.Cluster, error) {
	c.mu.Lock()
	if c.cluster != nil {
		defer c.mu.Unlock()
		return c.cluster, nil
	}
	ended := c.connecting
	if ended == nil {
		ended = make(chan struct{})
		c.connecting = ended
		go c.connect(context.WithoutCancel(ctx), ended)
	}
	c.mu.Unlock()
	select {
	case <-ended:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cluster == nil && c.err == nil { // it was lost meanwhile
		return nil, errLost
	}
	return c.cluster, c.err
}

// connected reports whether it is.
func (c *client) connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cluster != nil
}

// errNoMonitor is what a request has met that has waited for the connection all the time.
var errNoMonitor = errors.New("no monitor of the cluster could be reached")

var errLost = errors.New("the connection to the cluster was lost")

func (c *client) connect(ctx context.Context, ended chan struct{}) {
	var cluster *librados.Cluster
	err := errors.New("panic while connecting")
	defer func() {
		_ = recover() // err says so
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cluster, c.err, c.connecting = cluster, err, nil
		close(ended)
	}()
	cluster, err = librados.Connect(ctx, c.options)
}

// lost has the next who asks connect anew, unless somebody has.
func (c *client) lost(cluster *librados.Cluster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cluster == cluster {
		c.cluster = nil
		go cluster.Close()
	}
}

// pool is a pool's namespace, as one target sees it.
type pool struct {
	config *Config
	name   string
	client *client
	limit  *chunkstore.Limiter
	o      chunkstore.Options
	waits  *chunkstore.Watch
	open   atomic.Pointer[opened]
}

// opened is a pool of a connected client.
type opened struct {
	*librados.IO
	maps func(context.Context) (bool, error) // whether objects can have maps; asked once
}

func newPool(c *Config, limit *chunkstore.Limiter, o chunkstore.Options) *pool {
	return &pool{config: c, limit: limit, o: o, waits: chunkstore.NewWatch(o, 1),
		client: clientOf(c, o), name: c.where()}
}

// io returns the pool, and opens it if need be.
func (p *pool) io(ctx context.Context) (*opened, error) {
	cluster, err := p.client.get(ctx)
	if err != nil {
		return nil, err
	}
	if was := p.open.Load(); was != nil && was.Cluster() == cluster {
		return was, nil
	}
	var id int64
	if number, ok := strings.CutPrefix(p.config.Pool, "*"); ok {
		id, err = strconv.ParseInt(number, 10, 64)
	} else {
		id, err = cluster.PoolID(ctx, p.config.Pool)
	}
	if err != nil {
		return nil, err
	}
	io, err := cluster.IO(ctx, id, p.config.Namespace)
	if err != nil {
		return nil, err
	}
	now := &opened{IO: io, maps: onceAnswered(func(ctx context.Context) (bool, error) {
		return hasMaps(ctx, cluster, id)
	})}
	p.open.Store(now)
	return now, nil
}

// onceAnswered returns f, which is called again only after an error.
func onceAnswered(f func(context.Context) (bool, error)) func(context.Context) (bool, error) {
	var answer atomic.Int32 // 0: none yet
	return func(ctx context.Context) (bool, error) {
		if a := answer.Load(); a != 0 {
			return a == 1, nil
		}
		yes, err := f(ctx)
		if err == nil && yes {
			answer.Store(1)
		} else if err == nil {
			answer.Store(2)
		}
		return yes, err
	}
}

// replicated is the type of pools that hold copies; those with erasure coding have no maps.
const replicated = 1

// hasMaps asks the monitors whether objects of the pool may have maps. Any client may.
func hasMaps(ctx context.Context, cluster *librados.Cluster, id int64) (bool, error) {
	out, _, err := cluster.MonCommand(ctx,
		`{"prefix":"osd pool ls","detail":"detail","format":"json"}`, nil)
	if err != nil {
		return false, err
	}
	var pools []struct {
		ID   int64 `json:"pool_id"`
		Type int   `json:"type"`
	}
	if err := json.Unmarshal(out, &pools); err != nil {
		return false, fmt.Errorf("list of pools: %w", err)
	}
	for _, p := range pools {
		if p.ID == id {
			return p.Type == replicated, nil
		}
	}
	return false, fmt.Errorf("%w: number %d", librados.ErrNoPool, id)
}

// do sends one request of b's, of about so many bytes, and translates its error. If the client is
// on the cluster's blocklist, it is sent again by a new one.
func (p *pool) do(ctx context.Context, b fmt.Stringer, request string, bytes int64,
	send func(context.Context, *opened) error) error {
	if err := p.limit.Take(ctx); err != nil {
		return err
	}
	w := p.waits.Begin(b, request, p.o.Timeout, bytes)
	bounded, cancel := context.WithTimeout(ctx, w.Left(0))
	defer cancel()
	err := p.send(bounded, send)
	if errors.Is(err, syscall.ESHUTDOWN) || errors.Is(err, librados.ErrClosed) {
		err = p.send(bounded, send)
	}
	late := bounded.Err() != nil && errors.Is(err, bounded.Err()) ||
		errors.Is(err, syscall.ETIMEDOUT)
	w.End(!late)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && late:
		if !p.client.connected() && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%w: %w", errNoMonitor, ctx.Err())
		}
		return ctx.Err()
	case late && bounded.Err() != nil:
		if !p.client.connected() {
			w.Failed(errNoMonitor)
		}
		return w.NoAnswer()
	}
	return p.translate(err)
}

func (p *pool) send(ctx context.Context, send func(context.Context, *opened) error) error {
	io, err := p.io(ctx)
	if err != nil {
		return err
	}
	err = send(ctx, io)
	if errors.Is(err, syscall.ESHUTDOWN) || errors.Is(err, librados.ErrClosed) {
		p.client.lost(io.Cluster())
	}
	if errors.Is(err, librados.ErrNoPool) {
		p.open.CompareAndSwap(io, nil) // perhaps it is made again, with another number
	}
	return err
}

// failure is an error of the cluster's that is one of chunkstore's kinds, too.
type failure struct {
	error
	kind error
}

func (f *failure) Unwrap() []error { return []error{f.kind, f.error} }

func (p *pool) translate(err error) error {
	kind := error(nil)
	switch {
	case errors.Is(err, librados.ErrNoPool):
		err = fmt.Errorf("%w: make it: ceph osd pool create %s", err, p.config.Pool)
		return &failure{err, chunkstore.ErrNoBucket}
	case errors.Is(err, syscall.ENOENT):
		var e *librados.Error
		if errors.As(err, &e) && e.Object != "" { // else the configuration or keyring is
			kind = chunkstore.ErrAbsent
		}
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		kind = chunkstore.ErrDenied
	}
	if kind == nil {
		return err
	}
	return &failure{err, kind}
}

// since1970 is a time of the cluster's, which are whole seconds.
func since1970(seconds int64) time.Time { return time.Unix(seconds, 0) }
