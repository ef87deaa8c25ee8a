package cephsqlite

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"verneuil/cgo/librados"
)

const (
	// fileBytesMax bounds a file: the largest database of SQLite.
	fileBytesMax = 281474976579584
	// objectBytesMax bounds an object: what a cluster allows.
	objectBytesMax = 128 << 20
)

// header is what the first object's attributes say of a file.
type header struct {
	file        string // in RADOS
	to          string // on this machine
	size        int64
	objectBytes int64
	excl        string
}

// readHeader reads that of a file. The error is ENOENT if there is no such file.
func readHeader(ctx context.Context, place *librados.IO, file string) (*header, error) {
	first := object(file, 0)
	got, err := place.Read(ctx, first, &librados.ReadOp{Xattrs: true})
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(file, got.Xattrs)
	if err != nil {
		return nil, fmt.Errorf("object %q is not one of libcephsqlite: %w", first, err)
	}
	return h, nil
}

func parseHeader(file string, xattrs map[string][]byte) (*header, error) {
	h := &header{file: file, excl: string(xattrs["striper.excl"])}
	var stripes int64
	for _, a := range []struct {
		name     string
		value    *int64
		from, to int64
	}{
		{"striper.size", &h.size, 0, fileBytesMax},
		{"striper.layout.object_size", &h.objectBytes, 512, objectBytesMax},
		{"striper.layout.stripe_count", &stripes, 1, 1},
	} {
		text, ok := xattrs[a.name]
		if !ok {
			return nil, fmt.Errorf("it has no attribute %s", a.name)
		}
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil || n < a.from || n > a.to {
			return nil, fmt.Errorf("its attribute %s is %.40q, not a number from %d to %d",
				a.name, text, a.from, a.to)
		}
		*a.value = n
	}
	if _, ok := xattrs["striper.excl"]; !ok {
		return nil, errors.New("it has no attribute striper.excl")
	}
	return h, nil
}
