package rados

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"verneuil/cgo/librados"
	"verneuil/chunkstore"
)

func init() { chunkstore.Register(func() chunkstore.TargetConfig { return new(Config) }) }

// Config is a pool of a Ceph cluster, and a namespace of it. What is empty but for Pool is what
// Ceph's tools take: see [verneuil/cgo/librados.Options]. The user's key never stands here.
type Config struct {
	// the pool's name, or "*2" for the one whose number is 2
	Pool      string `json:"pool"`
	Namespace string `json:"namespace,omitempty"`
	Conf      string `json:"conf,omitempty" config:"path"`
	User      string `json:"user,omitempty"` // with or without "client."
	Keyring   string `json:"keyring,omitempty" config:"path"`
	Cluster   string `json:"cluster,omitempty"`
}

// Kind is the provider's name in JSON.
func (c *Config) Kind() string { return "rados" }

// Validate checks what JSON types cannot: see [chunkstore.TargetConfig].
func (c *Config) Validate(at string) error {
	if err := chunkstore.Missing(at+".pool", c.Pool); err != nil {
		return err
	}
	if number, ok := strings.CutPrefix(c.Pool, "*"); ok {
		if n, err := strconv.ParseInt(number, 10, 64); err != nil || n < 0 {
			return fmt.Errorf("%s.pool: %q: want a name, or * and the number of a pool",
				at, c.Pool)
		}
	}
	for name, value := range map[string]string{"namespace": c.Namespace, "conf": c.Conf,
		"user": c.User, "keyring": c.Keyring, "cluster": c.Cluster} {
		if strings.ContainsRune(value, 0) {
			return fmt.Errorf("%s.%s: %q contains a zero byte", at, name, value)
		}
	}
	return nil
}

// Places names where chunks and manifests lie: see [chunkstore.TargetOpener].
func (c *Config) Places() (chunks, manifests string) {
	of := c.options().Resolved()
	place := fmt.Sprintf("rados %s %s %q %q ", of.Cluster, of.Conf, c.Pool, c.Namespace)
	return place + chunksPrefix, place + manifestsPrefix
}

func (c *Config) options() librados.Options {
	return librados.Options{Cluster: c.Cluster, User: c.User, Conf: c.Conf, Keyring: c.Keyring}
}

// where names the place in messages, and tells it from those in other clusters.
func (c *Config) where() string {
	place, of := c.Pool, c.options().Resolved()
	if c.Namespace != "" {
		place += ":" + c.Namespace
	}
	return fmt.Sprintf("RADOS pool %s of %s", place, cmp.Or(of.Conf, of.Cluster))
}

// Client returns the client of the cluster, which all targets of this process share that are the
// same user of it, and connects it if need be. It must not be closed.
func (c *Config) Client(ctx context.Context, o chunkstore.Options) (*librados.Cluster, error) {
	return clientOf(c, o.WithDefaults()).get(ctx)
}

// Open makes the target of c: see [chunkstore.TargetOpener].
func (c *Config) Open(limit *chunkstore.Limiter, o chunkstore.Options) (*chunkstore.Target, error) {
	p := newPool(c, limit.Unpaced(), o)
	return chunkstore.NewTarget(c.where(), &chunks{bucket: bucket{pool: p, prefix: chunksPrefix}},
		&bucket{pool: p, prefix: manifestsPrefix}), nil
}
