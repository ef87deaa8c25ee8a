package sqlitefile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"verneuil/spool/sqlitefile"
)

func TestWALIndex(t *testing.T) {
	for _, pageBytes := range []int{512, 65536} {
		conn, path := openWAL(t, pageBytes)
		run(t, conn, "CREATE TABLE t(x); INSERT INTO t VALUES (randomblob(100000));")
		shm, err := sqlitefile.ReadWALIndex(bytes.NewReader(readFile(t, path+"-shm")))
		if err != nil {
			t.Fatal(err)
		}
		view, err := sqlitefile.NewWALView(bytes.NewReader(readFile(t, path+"-wal")), shm.Frames)
		if err != nil {
			t.Fatal(err)
		}
		reader, err := sqlitefile.NewWALReader(bytes.NewReader(readFile(t, path+"-wal")))
		if err != nil {
			t.Fatal(err)
		}
		for range view.Frames {
			if _, err := reader.Next(); err != nil {
				t.Fatal(err)
			}
		}
		if at, err := reader.SumAt(view.Frames); err != nil || at != reader.Sum() {
			t.Errorf("frame %d has checksum %x, and was read with %x: %v", view.Frames, at,
				reader.Sum(), err)
		}
		want := sqlitefile.WALIndex{PageBytes: pageBytes, Salts: view.Salts, Frames: view.Frames,
			Pages: view.Pages, Sum: reader.Sum()}
		if shm != want || shm.Frames == 0 {
			t.Errorf("wal-index says %+v, the WAL %+v", shm, want)
		}
		run(t, conn, "PRAGMA wal_checkpoint(PASSIVE);")
		if shm, err =
			sqlitefile.ReadWALIndex(bytes.NewReader(readFile(t, path+"-shm"))); err != nil {
			t.Fatal(err)
		}
		if shm.Backfilled != shm.Frames {
			t.Errorf("after a checkpoint %d of %d frames are backfilled", shm.Backfilled,
				shm.Frames)
		}
	}
}

func TestWALIndexTorn(t *testing.T) {
	conn, path := openWAL(t, 4096)
	run(t, conn, "CREATE TABLE t(x);")
	shm := readFile(t, path+"-shm")
	for _, at := range []int{0, 16, 24, 40, 48, 64, 95} {
		torn := bytes.Clone(shm)
		torn[at] ^= 1
		_, err := sqlitefile.ReadWALIndex(bytes.NewReader(torn))
		if !errors.Is(err, sqlitefile.ErrWALBusy) {
			t.Errorf("byte %d changed: error %v, want ErrWALBusy", at, err)
		}
	}
	_, err := sqlitefile.ReadWALIndex(bytes.NewReader(shm[:40]))
	if !errors.Is(err, sqlitefile.ErrWALBusy) {
		t.Errorf("short wal-index: error %v, want ErrWALBusy", err)
	}
}

// FuzzWALIndex: no wal-index panics, and what is accepted can be counted with.
func FuzzWALIndex(f *testing.F) {
	f.Add(make([]byte, 136))
	header := make([]byte, 48)
	binary.NativeEndian.PutUint32(header, 3007000)
	header[12] = 1
	binary.NativeEndian.PutUint16(header[14:], 4096)
	binary.NativeEndian.PutUint32(header[16:], 7)
	f.Add(header)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 40 { // let the fuzzer past the checksum, and the second copy
			header := append(bytes.Clone(b[:40]), make([]byte, 8)...)
			var s1, s2 uint32
			for at := 0; at < 40; at += 8 {
				s1 += binary.NativeEndian.Uint32(header[at:]) + s2
				s2 += binary.NativeEndian.Uint32(header[at+4:]) + s1
			}
			binary.NativeEndian.PutUint32(header[40:], s1)
			binary.NativeEndian.PutUint32(header[44:], s2)
			b = append(append(bytes.Clone(header), header...), b[40:]...)
		}
		index, err := sqlitefile.ReadWALIndex(bytes.NewReader(b))
		if err == nil && (index.Frames < 0 || index.Backfilled < 0 || index.PageBytes < 0 ||
			index.PageBytes > 65536) {
			t.Errorf("accepted %+v", index)
		}
	})
}
