package chunkstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// TargetConfig is one entry of replication_targets: a pointer to the configuration that the
// package of a provider defines, which is a [TargetOpener] or a [CacheOpener]. It is not changed
// after it was made, and may be shared.
//
// It is a struct, whose members are read from the configuration by their tags: "json" has the name,
// and "config", which need not be there, what JSON's types cannot say: "path" of a string that is
// the name of a file or directory, which is made absolute, or the least and the greatest value of a
// whole number, as in "0..65536"; the greatest may be missing.
type TargetConfig interface {
	// Kind is the provider's name in JSON, under which it is registered.
	Kind() string
	// Validate checks what JSON types cannot. at is where the configuration stands, such as
	// "replication_targets[1].s3"; the error begins with it, or with the member of it that is
	// wrong.
	Validate(at string) error
}

// TargetOpener is the configuration of a place that holds whole databases.
type TargetOpener interface {
	TargetConfig
	// Places names where the chunks and the manifests of a valid configuration lie. Equal names
	// mean one place; names begin with the kind.
	Places() (chunks, manifests string)
	// Open makes the target of a valid configuration. It sends no request, reads no credentials and
	// makes no directory: that happens at the first use. Each request takes a token of limit (I4).
	// o has its defaults.
	Open(limit *Limiter, o Options) (*Target, error)
}

// CacheOpener is the configuration of a cache on this machine.
type CacheOpener interface {
	TargetConfig
	// Place returns the cache's directory, and whether a [Store] fills it.
	Place() (directory string, filled bool)
	// Open makes the cache of a valid configuration. It does no I/O. o has its defaults.
	Open(o Options) (Cache, error)
}

var registry struct {
	mu    sync.Mutex
	kinds map[string]func() TargetConfig
}

// Register makes a kind of target or cache known. made returns a new, empty configuration, whose
// Kind gives the name. A provider's package calls it once, from an init function: whatever imports
// the package then knows its kinds. It panics if the kind is known already.
func Register(made func() TargetConfig) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	kind := made().Kind()
	if registry.kinds[kind] != nil {
		panic("chunkstore: two providers of the kind " + kind)
	}
	if registry.kinds == nil {
		registry.kinds = make(map[string]func() TargetConfig)
	}
	registry.kinds[kind] = made
}

// NewConfig returns an empty configuration of that kind, and whether the kind is known.
func NewConfig(kind string) (c TargetConfig, known bool) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	made, known := registry.kinds[kind]
	if !known {
		return nil, false
	}
	return made(), true
}

// Kinds returns the names of the kinds that are known, in their order.
func Kinds() []string {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	return slices.Sorted(maps.Keys(registry.kinds))
}

// TargetConfigs is a list of targets and caches. In JSON each is an object with one member, whose
// name is the kind.
type TargetConfigs []TargetConfig

// MarshalJSON is the inverse of UnmarshalJSON.
func (c TargetConfigs) MarshalJSON() ([]byte, error) {
	if c == nil {
		return []byte("null"), nil
	}
	entries := make([]map[string]TargetConfig, len(c))
	for i, t := range c {
		entries[i] = map[string]TargetConfig{t.Kind(): t}
	}
	return json.Marshal(entries)
}

// UnmarshalJSON reads what MarshalJSON wrote, perhaps of another version of this program: members
// that it does not know are ignored, a kind that it does not know is an error. It does not
// validate.
func (c *TargetConfigs) UnmarshalJSON(text []byte) error {
	var entries []map[string]json.RawMessage
	if err := json.Unmarshal(text, &entries); err != nil {
		return err
	}
	*c = nil
	if entries != nil {
		*c = make(TargetConfigs, len(entries))
	}
	for i, entry := range entries {
		if len(entry) != 1 {
			return fmt.Errorf("targets[%d]: want exactly one of %s, got %d",
				i, strings.Join(Kinds(), ", "), len(entry))
		}
		for kind, body := range entry {
			config, known := NewConfig(kind)
			if !known {
				return fmt.Errorf("targets[%d].%s: unknown kind of target, want one of %s",
					i, kind, strings.Join(Kinds(), ", "))
			}
			if bytes.Equal(body, []byte("null")) {
				return fmt.Errorf("targets[%d].%s: missing", i, kind)
			}
			if err := json.Unmarshal(body, config); err != nil {
				return fmt.Errorf("targets[%d].%s: %w", i, kind, err)
			}
			(*c)[i] = config
		}
	}
	return nil
}

// Entry is the configuration of a target or cache, and where it stands, such as
// "replication_targets[1]".
type Entry struct {
	At     string
	Config TargetConfig
}

// Entries returns the members of a list, which at names.
func Entries(at string, cfgs []TargetConfig) []Entry {
	entries := make([]Entry, len(cfgs))
	for i, c := range cfgs {
		entries[i] = Entry{fmt.Sprintf("%s[%d]", at, i), c}
	}
	return entries
}

// ValidateEntries is [TargetConfig.Validate] for several, of which no two may use one place
// for manifests: they would take each other for another writer. Nor may one keep its chunks where
// another has its manifests.
func ValidateEntries(entries []Entry) error {
	manifestsOf := make(map[string]string)
	chunksOf := make(map[string]string)
	for _, e := range entries {
		if err := e.Config.Validate(e.At + "." + e.Config.Kind()); err != nil {
			return err
		}
		target, ok := e.Config.(TargetOpener)
		if !ok {
			continue
		}
		chunks, manifests := target.Places()
		for _, clash := range []struct {
			place string
			known map[string]string
			what  string
		}{
			{manifests, manifestsOf, "is the same place as %s"},
			{manifests, chunksOf, "keeps its manifests where %s has its chunks"},
			{chunks, manifestsOf, "keeps its chunks where %s has its manifests"},
		} {
			if other, ok := clash.known[clash.place]; ok {
				return fmt.Errorf("%s: "+clash.what+": give it another bucket, prefix or path",
					e.At, other)
			}
		}
		manifestsOf[manifests], chunksOf[chunks] = e.At, e.At
	}
	return nil
}

// Missing is what Validate says of a string that must be there; nil: it is.
func Missing(at, value string) error {
	switch {
	case value == "":
		return fmt.Errorf("%s: missing", at)
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("%s: %q contains a zero byte", at, value)
	}
	return nil
}
