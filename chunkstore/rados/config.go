package rados

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

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
	place := fmt.Sprintf("rados %s %s %q %q ", cmp.Or(c.Cluster, "ceph"), c.Conf, c.Pool,
		c.Namespace)
	return place + chunksPrefix, place + manifestsPrefix
}

// where names the place in messages.
func (c *Config) where() string {
	if c.Namespace == "" {
		return "RADOS pool " + c.Pool
	}
	return "RADOS pool " + c.Pool + ":" + c.Namespace
}

// Open makes the target of c: see [chunkstore.TargetOpener].
func (c *Config) Open(limit *chunkstore.Limiter, o chunkstore.Options) (*chunkstore.Target, error) {
	p := newPool(c, limit.Unpaced(), o)
	return chunkstore.NewTarget(c.where(), &chunks{bucket: bucket{pool: p, prefix: chunksPrefix}},
		&bucket{pool: p, prefix: manifestsPrefix}), nil
}
