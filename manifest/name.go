package manifest

import (
	"encoding/hex"
	"strings"

	"verneuil/chunkstore"
)

// nameBytesMax keeps a name under the 255 bytes that a file name may have, as
// MinIO allows no more between two slashes of a key (XMinioInvalidObjectName; S3 itself: 1,024 in all).
const nameBytesMax = 240

// Name returns the key of the manifest of the database at path on host, as the
// package's comment specifies it. path is used as it is: callers make it
// absolute and canonical.
func Name(host, path string) string {
	name := hash16(host) + "-" + escape("verneuil:"+host+":"+hash16(path)+"/"+path)
	if len(name) <= nameBytesMax {
		return name
	}
	sum := chunkstore.Sum([]byte(name)).String()[:32]
	return name[:nameBytesMax-len(sum)] + sum
}

// hash16 returns 16 bits of s's hash in hex, to spread keys over a store.
func hash16(s string) string {
	sum := chunkstore.Sum([]byte(s))
	return hex.EncodeToString(sum[:2])
}

// escape percent-encodes all but the bytes that S3 calls safe in a key.
func escape(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			strings.IndexByte("!-_.*'()", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}
