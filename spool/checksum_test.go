package spool

import (
	"hash/crc32"
	"testing"
)

// TestChecksumForms: the checksum of frames, which this processor may have an instruction for, is
// that of CRC-32C's definition, for every length and alignment. package cgo's test of that name
// does the same with C's; make test-arm64 runs both on arm64.
func TestChecksumForms(t *testing.T) {
	if got := crc32.Checksum([]byte("123456789"), castagnoli); got != 0xe3069283 {
		t.Fatalf("%x: not CRC-32C", got)
	}
	var a [5000]byte
	for x, i := uint32(1), 0; i < len(a); i++ {
		x = x*1103515245 + 12345
		a[i] = byte(x >> 16)
	}
	for n := 0; n+16 <= len(a); n++ {
		if n > 1700 && n%97 != 0 {
			continue
		}
		for at := 0; at < 16; at += 5 {
			want := ^uint32(0)
			for _, c := range a[at : at+n] {
				want ^= uint32(c)
				for range 8 {
					want = want>>1 ^ 0x82f63b78&-(want&1)
				}
			}
			if got := crc32.Checksum(a[at:at+n], castagnoli); got != ^want {
				t.Fatalf("offset %d, %d bytes: %x, want %x", at, n, got, ^want)
			}
		}
	}
}
