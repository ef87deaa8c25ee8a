package vfs

import (
	"context"
	"encoding/json"
	"regexp"

	"verneuil/chunkstore/rados"
)

// pool is what libcephsqlite takes for a pool and a namespace in a URI: POOL:NAMESPACE, or
// *POOLID:NAMESPACE. The namespace may be empty.
var pool = regexp.MustCompile(`^(\*[0-9]+|[A-Za-z0-9._-]+):([A-Za-z0-9._-]*)$`)

// poolOf returns the store that needs no configuration and has that name; nil: it is none. C has
// the same rule (cgo/remote_vfs.c). The name of a store of the configuration has no colon.
func poolOf(name string) *rados.Config {
	part := pool.FindStringSubmatch(name)
	if part == nil {
		return nil
	}
	return &rados.Config{Pool: part[1], Namespace: part[2]}
}

// CephStatus returns what ceph_status() says: what the cluster calls the client that this process
// is, of the stores that need no configuration. It connects if need be.
func (e *Engine) CephStatus(ctx context.Context) (string, error) {
	if e.cfgErr != nil {
		return "", e.cfgErr
	}
	client, err := new(rados.Config).Client(ctx, e.cfg.storeOptions(e.log, 0, 1))
	if err != nil {
		return "", err
	}
	address, err := client.Addr()
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(struct {
		ID      uint64 `json:"id"`
		Address string `json:"addr"`
	}{client.ID(), address})
	return string(text), err
}
