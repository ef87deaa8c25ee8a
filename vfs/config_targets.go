package vfs

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"verneuil/chunkstore"

	// The providers of targets and caches: each registers its configuration.
	_ "verneuil/chunkstore/cache"
	_ "verneuil/chunkstore/dir"
	_ "verneuil/chunkstore/rados"
	_ "verneuil/chunkstore/s3"
)

// target reads the configuration of a target or cache, and gives it to take, with its path: an
// object with one member, whose name is the kind of a registered provider.
func (b base) target(take func(at string, t chunkstore.TargetConfig) error) reader {
	return func(at string, value any) error {
		members, ok := value.(object)
		if !ok {
			return wrongType(at, value, "an object")
		}
		kinds := strings.Join(chunkstore.Kinds(), ", ")
		if len(members) != 1 {
			return fmt.Errorf("%s: has %d keys (%s), want exactly one of %s", at, len(members),
				members.keys(), kinds)
		}
		kind := members[0]
		at = join(at, kind.key)
		target, known := chunkstore.NewConfig(kind.key)
		if !known {
			return fmt.Errorf("%s: unknown kind of target, want one of %s", at, kinds)
		}
		if err := readObject(at, kind.value, b.membersOf(target)); err != nil {
			return err
		}
		// A null where an object belongs reads as "nothing given": Validate
		// names what is missing.
		if err := target.Validate(at); err != nil {
			return err
		}
		return take(at, target)
	}
}

// membersOf returns the readers of target's members, by the tags that [chunkstore.TargetConfig]
// describes.
func (b base) membersOf(target chunkstore.TargetConfig) fields {
	config := reflect.ValueOf(target).Elem()
	readers := make(fields)
	for i := range config.NumField() {
		field := config.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		readers[name] = b.memberOf(config.Field(i).Addr().Interface(), field.Tag.Get("config"))
	}
	return readers
}

// memberOf returns the reader that stores to dst; tag says more about it than its type does. A tag
// or type that makes no sense is a mistake in the provider, which its first use shows.
func (b base) memberOf(dst any, tag string) reader {
	switch dst := dst.(type) {
	case *string:
		if tag == "path" {
			return b.directory(dst)
		}
		return text(dst)
	case *bool:
		return boolean(dst)
	case *int:
		low, high := limits(tag)
		return integer(dst, low, high)
	case *int64:
		low, high := limits(tag)
		return integer(dst, low, high)
	}
	panic(fmt.Sprintf("a provider's member is a %T", dst))
}

// limits parses LOW..HIGH; HIGH may be missing.
func limits(tag string) (low, high int64) {
	least, greatest, _ := strings.Cut(tag, "..")
	low, err := strconv.ParseInt(least, 10, 64)
	if err == nil && greatest == "" {
		return low, math.MaxInt64
	}
	if err == nil {
		high, err = strconv.ParseInt(greatest, 10, 64)
	}
	if err != nil {
		panic("a provider's member has the limits " + tag)
	}
	return low, high
}
