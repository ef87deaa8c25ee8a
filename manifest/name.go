package manifest

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"verneuil/chunkstore"
)

// nameBytesMax keeps a name under the 255 bytes that a file name may have, as MinIO allows no more
// between two slashes of a key (XMinioInvalidObjectName; S3 itself: 1,024 in all).
const nameBytesMax = 240

const namePrefix = "verneuil:"

// nameSumBytes is the length of the hash that ends a name that was cut.
const nameSumBytes = 32

// Name returns the key of the manifest of the database at path on host, as the
// package's comment specifies it. path is used as it is: callers make it
// absolute and canonical.
func Name(host, path string) string {
	name := hash16(host) + "-" + escape(namePrefix+host+":"+hash16(path)+"/"+path)
	if len(name) <= nameBytesMax {
		return name
	}
	sum := chunkstore.Sum([]byte(name)).String()[:nameSumBytes]
	return name[:nameBytesMax-len(sum)] + sum
}

// NamePrefix returns what the names of all databases on host begin with. Names of other
// hosts may begin with it, too.
func NamePrefix(host string) string {
	prefix := hash16(host) + "-" + escape(namePrefix+host+":")
	return prefix[:min(len(prefix), nameBytesMax-nameSumBytes)]
}

// Source is what a key says of the database whose manifest it names.
type Source struct {
	Host, Path string
	// Whole is false if the key was too long: then Path is only its beginning, and both
	// are empty if not even Host had room.
	Whole bool
}

// ParseName is the inverse of [Name]. ok is false for what Name cannot have made.
func ParseName(key string) (s Source, ok bool) {
	const head = 4 + 1 // hash16 and the dash
	if len(key) < head || len(key) > nameBytesMax {
		return Source{}, false
	}
	if s, ok = parseSource(unescape(key[head:])); ok && Name(s.Host, s.Path) == key {
		s.Whole = true
		return s, true
	}
	cut := unescape(key[head:max(head, len(key)-nameSumBytes)])
	if len(key) < nameBytesMax || !strings.HasPrefix(cut, namePrefix) {
		return Source{}, false
	}
	if s, _ = parseSource(cut); hash16(s.Host) != key[:head-1] {
		s = Source{} // cut within the host
	}
	for i := 0; i < utf8.UTFMax-1 && !utf8.ValidString(s.Path); i++ { // cut within a letter
		s.Path = s.Path[:len(s.Path)-1]
	}
	return s, true
}

// parseSource parses verneuil:HOST:HASH/PATH.
func parseSource(text string) (s Source, ok bool) {
	text, ok = strings.CutPrefix(text, namePrefix)
	if !ok {
		return Source{}, false
	}
	front, path, found := strings.Cut(text, "/")
	host, hash, colon := cutLast(front, ":")
	return Source{Host: host, Path: path}, found && colon && len(hash) == 4
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
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

// unescape undoes escape, as far as text is its work.
func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		if i+3 > len(text) {
			break
		}
		c, err := hex.DecodeString(text[i+1 : i+3])
		if err != nil {
			break
		}
		b.Write(c)
		i += 2
	}
	return b.String()
}
