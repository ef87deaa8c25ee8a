package chunkstore

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	objectMagic       = "VRNC"
	objectVersion     = 1
	objectCodecRaw    = 0
	objectCodecZstd   = 1
	objectHeaderBytes = 8

	// objectBytesMax bounds a stored object: the payload is raw where zstd does
	// not help, so that it is never longer than the plain bytes.
	objectBytesMax = objectHeaderBytes + ChunkBytes
)

// The encoders and objectDecoder are shared by all: EncodeAll and DecodeAll are
// safe for concurrent use, start no goroutine, and keep a state for each processor: they are used
// in turn, so that more of them would be out of the caches. They are made at first use, for a
// process that only loads us.
var (
	objectEncoder = sync.OnceValue(func() *zstd.Encoder {
		return newEncoder(zstd.WithAllLitEntropyCompression(true))
	})
	// evenEncoder is for bytes that are even: it looks for what is repeated, and no more.
	evenEncoder = sync.OnceValue(func() *zstd.Encoder {
		return newEncoder(zstd.WithNoEntropyCompression(true))
	})
	objectDecoder = sync.OnceValue(func() *zstd.Decoder {
		return must(zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(cap(sealing)),
			zstd.WithDecoderMaxWindow(ChunkBytes),
			zstd.WithDecoderMaxMemory(ChunkBytes),
			zstd.WithDecodeAllCapLimit(true)))
	})
)

// newEncoder makes an encoder. SpeedFastest: on chunks of rows the next level takes 1.5 x the time
// and saves nothing (BenchmarkEncodeObject: 0.348 against 0.355 of the plain bytes).
func newEncoder(literals zstd.EOption) *zstd.Encoder {
	return must(zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest), literals,
		zstd.WithEncoderConcurrency(cap(sealing)),
		zstd.WithWindowSize(ChunkBytes),
		zstd.WithEncoderCRC(false))) // the ID is a better checksum
}

const (
	evenRuns  = 64 // of a sample
	evenRun   = 16 // bytes of each
	evenLeast = 4 * evenRuns * evenRun
)

// even reports whether the bytes of b, but for runs of zeros, seem to be as good as random ones, as
// those of pictures are, and of all that is compressed or encrypted: then to give some of them
// shorter codes takes most of the encoder's time, and zstd keeps the result only if that saves a
// sixteenth. Two bytes of a sample are equal as often as of 256 values of which each comes as often
// as another, or a quarter more often: with so many, no code saves a twentieth.
func even(b []byte) bool {
	if len(b) < evenLeast {
		return false
	}
	var counts [256]int
	n, pairs := 0, 0
	for k := range evenRuns {
		at := k * 40503 % (len(b) - evenRun) // all over b, and over what stands on pages
		run := b[at : at+evenRun]
		if string(run) == zeroRun {
			continue
		}
		n += evenRun
		for _, c := range run {
			pairs += counts[c]
			counts[c]++
		}
	}
	return pairs*2*4*256 < n*n*5
}

var zeroRun = string(make([]byte, evenRun))

// must: the constructors fail for bad options only, and ours are constants.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// encodeObject appends the encoded form of plain to dst ("Object format" in doc.go): compressed,
// where that is smaller.
func encodeObject(dst, plain []byte) []byte {
	start := len(dst)
	dst = append(dst, objectMagic...)
	dst = append(dst, objectVersion, objectCodecZstd, 0, 0)
	body := len(dst)
	encoder := objectEncoder
	if even(plain) {
		encoder = evenEncoder
	}
	dst = encoder().EncodeAll(plain, dst)
	if len(dst)-body < len(plain) {
		return dst
	}
	dst[start+5] = objectCodecRaw
	return append(dst[:body], plain...)
}

// frameBytesMax is more than zstd adds to what it cannot compress.
const frameBytesMax = 64

// roomFor returns b with room for n bytes more. It grows twofold: append grows by a quarter, and
// would copy a pack ten times.
func roomFor(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, max(len(b)+n, 2*cap(b))), b...)
}

const (
	// openSpare: a decoder that may write so much too far takes a tenth less time.
	openSpare = 16
	// OpenBytes is the best capacity of a buffer for [OpenObject].
	OpenBytes = ChunkBytes + openSpare
)

// plainBytes is how long the plain bytes are of which a zstd frame says so; else the most they may
// be.
func plainBytes(frame []byte) int {
	var h zstd.Header
	if err := h.Decode(frame); err != nil || !h.HasFCS || h.FrameContentSize > ChunkBytes {
		return ChunkBytes
	}
	return int(h.FrameContentSize)
}

// decodeObject is the inverse of encodeObject. It fails with [ErrCorrupt].
func decodeObject(buf, stored []byte) ([]byte, error) {
	switch {
	case len(stored) < objectHeaderBytes:
		return nil, fmt.Errorf("%w: object of %d bytes, shorter than its header", ErrCorrupt,
			len(stored))
	case string(stored[:4]) != objectMagic:
		return nil, fmt.Errorf("%w: object begins with %q, not %q", ErrCorrupt, stored[:4],
			objectMagic)
	case stored[4] != objectVersion:
		return nil, fmt.Errorf("%w: object has format version %d, this program knows %d",
			ErrCorrupt, stored[4], objectVersion)
	case stored[6] != 0 || stored[7] != 0:
		return nil, fmt.Errorf("%w: object's reserved bytes are not zero", ErrCorrupt)
	}
	payload := stored[objectHeaderBytes:]
	switch stored[5] {
	case objectCodecRaw:
		if len(payload) > ChunkBytes {
			return nil, fmt.Errorf("%w: object of %d bytes, more than %d", ErrCorrupt, len(payload),
				ChunkBytes)
		}
		return payload[:len(payload):len(payload)], nil
	case objectCodecZstd:
		if cap(buf) < ChunkBytes {
			buf = make([]byte, 0, plainBytes(payload)+openSpare)
		}
		// The capacity is the limit: see WithDecodeAllCapLimit above.
		plain, err := objectDecoder().DecodeAll(payload, buf[:0:min(cap(buf), OpenBytes)])
		if err == nil && len(plain) > ChunkBytes {
			err = fmt.Errorf("%d bytes, more than %d", len(plain), ChunkBytes)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: object's zstd frame: %w", ErrCorrupt, err)
		}
		return plain, nil
	default:
		return nil, fmt.Errorf("%w: object has the unknown codec %d", ErrCorrupt, stored[5])
	}
}
