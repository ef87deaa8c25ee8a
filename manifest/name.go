package manifest

import (
	"encoding/base32"
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

// Name returns the key of the manifest of the database at path on host, in a bucket that s seals,
// as the package's comment specifies it. path is used as it is: callers make it absolute and
// canonical.
func Name(s chunkstore.Sealer, host, path string) string {
	if sealed := s.SealName(packName(host, path)); sealed != nil {
		return sealedPrefix + sealedText.EncodeToString(sealed)
	}
	return PlainName(host, path)
}

// PlainName is Name where names are no secrets. Whoever has a bucket asks for its sealer's Name.
func PlainName(host, path string) string {
	name := hash16(host) + "-" + escape(namePrefix+host+":"+hash16(path)+"/"+path)
	if len(name) <= nameBytesMax {
		return name
	}
	sum := chunkstore.Sum([]byte(name)).String()[:nameSumBytes]
	return name[:nameBytesMax-len(sum)] + sum
}

// NamePrefix returns what the names of all databases on host begin with. Names of other
// hosts may begin with it, too.
func NamePrefix(s chunkstore.Sealer, host string) string {
	if s.SealName(nil) != nil {
		return sealedPrefix
	}
	prefix := hash16(host) + "-" + escape(namePrefix+host+":")
	return prefix[:min(len(prefix), nameBytesMax-nameSumBytes)]
}

// Source is what a key says of the database whose manifest it names.
type Source struct {
	Host, Path string
	// Whole is false if the key was too long: then Path is only its beginning, and both
	// are empty if not even Host had room.
	Whole bool
	// Foreign: the name is sealed, and not by this sealer: nothing is known of it.
	Foreign bool
}

// ParseName is the inverse of [Name]. ok is false for what Name cannot have made, with any sealer.
func ParseName(sealer chunkstore.Sealer, key string) (s Source, ok bool) {
	if text, sealed := strings.CutPrefix(key, sealedPrefix); sealed {
		return openName(sealer, text)
	}
	const head = 4 + 1 // hash16 and the dash
	if len(key) < head || len(key) > nameBytesMax {
		return Source{}, false
	}
	if s, ok = parseSource(unescape(key[head:])); ok && PlainName(s.Host, s.Path) == key {
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
	s.Path = cutLetter(s.Path)
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

// Sealed names: see the package's comment.
const (
	sealedPrefix = "sealed-"
	// packedShort and packedLong are the lengths of packed names: so a key tells which of the two a
	// name needs. A key of the longer one has 238 bytes.
	packedShort, packedLong = 64, 128
	packedSumBytes          = 16
	packedCut               = 0x80 // in the first byte: the name was cut
)

// sealedText is how sealed names are written: also stores that do not tell upper from lower case
// keep them apart.
var sealedText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").
	WithPadding(base32.NoPadding)

// packName returns what is sealed of a name.
func packName(host, path string) []byte {
	text := host + "\x00" + path
	packed := make([]byte, packedShort, packedLong)
	if len(text) >= packedShort {
		packed = packed[:packedLong]
	}
	if len(text) < packedLong {
		packed[0] = byte(len(text))
		copy(packed[1:], text)
		return packed
	}
	sum := chunkstore.Sum([]byte(text))
	packed[0] = packedCut
	copy(packed[1:], sum[:packedSumBytes])
	copy(packed[1+packedSumBytes:], text)
	return packed
}

// openName parses a sealed name.
func openName(sealer chunkstore.Sealer, text string) (s Source, ok bool) {
	sealed, err := sealedText.DecodeString(text)
	if n := len(sealed) - packedSumBytes; err != nil || n != packedShort && n != packedLong ||
		sealedText.EncodeToString(sealed) != text { // the last bits of which nothing depends on
		return Source{}, false
	}
	packed, ok := sealer.OpenName(sealed)
	if !ok {
		return Source{Foreign: true}, true
	}
	whole := packed[0] < packedCut
	if whole {
		packed = packed[1:min(1+int(packed[0]), len(packed))]
	} else {
		packed = packed[1+packedSumBytes:]
	}
	var separated bool
	s.Host, s.Path, separated = strings.Cut(string(packed), "\x00")
	if !separated { // cut within the host
		return Source{}, true
	}
	if s.Whole = whole; !whole {
		s.Path = cutLetter(s.Path)
	}
	return s, true
}

// cutLetter takes off the end of path what a cut has left of a letter.
func cutLetter(path string) string {
	for i := 0; i < utf8.UTFMax-1 && !utf8.ValidString(path) && path != ""; i++ {
		path = path[:len(path)-1]
	}
	return path
}
