package chunkstore_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/zeebo/blake3"

	"verneuil/chunkstore"
)

// of251 returns n bytes as BLAKE3's test vectors have them.
func of251(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// TestBLAKE3 compares what this processor computes with the official vectors, and with the digest
// of the digests of many lengths, which was computed once. make test-arm64 runs it on arm64.
func TestBLAKE3(t *testing.T) {
	vectors, err := os.ReadFile("testdata/blake3.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(vectors)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var length int
		var want [3]string
		if _, err := fmt.Sscan(line, &length, &want[0], &want[1], &want[2]); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		n++
		in := of251(length)
		keyed, err := blake3.NewKeyed([]byte("whats the Elvish word for friend"))
		if err != nil {
			t.Fatal(err)
		}
		keyed.Write(in)
		derived := make([]byte, 32)
		blake3.DeriveKey("BLAKE3 2019-12-27 16:29:52 test vectors context", in, derived)
		got := [3]string{chunkstore.Sum(in).String(), hex.EncodeToString(keyed.Sum(nil)[:32]),
			hex.EncodeToString(derived)}
		if got != want {
			t.Errorf("%d bytes: %q, want %q", length, got, want)
		}
	}
	if n < 20 {
		t.Errorf("only %d vectors", n)
	}
	// Each length of three blocks; then those about each block, up to two chunks of a database.
	const want = "1ed06f057e6402c9e50bc200e679f41ad8d67e9f3d83e2f4938bd0f574c39389"
	in, digests := of251(2*chunkstore.ChunkBytes+1), new(bytes.Buffer)
	for length := 0; length < len(in); length++ {
		if length < 3100 || (length+1)%1024 <= 2 {
			sum := chunkstore.Sum(in[:length])
			digests.Write(sum[:])
		}
	}
	if got := chunkstore.Sum(digests.Bytes()).String(); got != want {
		t.Errorf("the digest of %d digests is %s, want %s", digests.Len()/32, got, want)
	}
}

// TestBLAKE3Forms runs TestBLAKE3 with each form that the library has for amd64, whatever is the
// best of this processor: the variables are read when a process starts. What it has for any
// processor is what arm64 uses.
func TestBLAKE3Forms(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("there is one form only")
	}
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/zeebo/blake3").Output()
	if err != nil {
		t.Fatal(err)
	}
	reads, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)),
		"internal/consts/cpu.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"BLAKE3_DISABLE_AVX2", "BLAKE3_PUREGO"} {
		if !bytes.Contains(reads, []byte(form)) {
			t.Errorf("the library does not read %s any more", form)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBLAKE3$", "-test.v")
		cmd.Env = append(os.Environ(), form+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestBLAKE3 ")) {
			t.Errorf("%s: %v: %s", form, err, out)
		}
	}
}
