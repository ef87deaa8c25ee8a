package chunkstore

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// Address is what a URI of a provider's scheme names: an object, or the place of a target.
type Address struct {
	// Form is how such URIs are written, for messages.
	Form string
	// Key is the object's, in the bucket that Open opens; empty: the URI names no object.
	Key string
	// Open opens the bucket, in which keys are the store's own. It sends no request; the bucket's
	// requests are paced and counted by themselves.
	Open func(o Options) (Bucket, error)
	// Targets are the configurations of a target that the URI may be the place of, the likeliest
	// first. Of all but the last, manifests in it show that it is meant.
	Targets []TargetConfig
}

var schemes struct {
	mu      sync.Mutex
	parsers map[string]func(uri string) (Address, error)
}

// RegisterScheme makes URIs of a scheme, which is in lower case, known. parse does no I/O; its
// errors do not hold the URI, which may have a secret in it. A provider's package calls
// RegisterScheme once, from an init function, as [Register]. It panics if the scheme is known.
func RegisterScheme(scheme string, parse func(uri string) (Address, error)) {
	schemes.mu.Lock()
	defer schemes.mu.Unlock()
	if schemes.parsers[scheme] != nil {
		panic("chunkstore: two providers of the scheme " + scheme)
	}
	if schemes.parsers == nil {
		schemes.parsers = make(map[string]func(string) (Address, error))
	}
	schemes.parsers[scheme] = parse
}

// Schemes returns the schemes that are known, in their order.
func Schemes() []string {
	schemes.mu.Lock()
	defer schemes.mu.Unlock()
	return slices.Sorted(maps.Keys(schemes.parsers))
}

// ParseAddress parses a URI of a scheme that is known; of another, or of what is no URI, known is
// false. It does no I/O. Its errors do not hold the URI.
func ParseAddress(uri string) (a Address, known bool, err error) {
	scheme, _, ok := strings.Cut(uri, "://")
	if !ok {
		return Address{}, false, nil
	}
	schemes.mu.Lock()
	parse, known := schemes.parsers[strings.ToLower(scheme)]
	schemes.mu.Unlock()
	if !known {
		return Address{}, false, nil
	}
	a, err = parse(uri)
	return a, true, err
}
