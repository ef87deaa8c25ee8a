package spool

import (
	"go/constant"
	"go/token"
	"go/types"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// cHeader is what the recorders know of the formats.
func cHeader(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../cgo/spool.h")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// cConstants are the macros and enumerators of header that stand for a number or a string.
func cConstants(header string) map[string]constant.Value {
	found := map[string]constant.Value{}
	define := regexp.MustCompile(`(?m)^#define (SPOOL_\w+) (.*?)(?:\s*/\*.*)?$`)
	enumerator := regexp.MustCompile(`\b(SPOOL_\w+) = (\d+)`)
	unsigned := regexp.MustCompile(`\b(0x[0-9a-f]+|\d+)u\b`)
	for _, m := range append(define.FindAllStringSubmatch(header, -1),
		enumerator.FindAllStringSubmatch(header, -1)...) {
		text := strings.ReplaceAll(unsigned.ReplaceAllString(m[2], "$1"), "(uint64_t)", "")
		v, err := types.Eval(token.NewFileSet(), nil, token.NoPos, text)
		if err == nil && v.Value != nil {
			found[m[1]] = v.Value
		}
	}
	return found
}

// TestCConstants compares the numbers and names that C and Go both know.
func TestCConstants(t *testing.T) {
	c := cConstants(cHeader(t))
	for name, want := range map[string]any{
		"SPOOL_STATE_MAGIC": stateMagic, "SPOOL_STATE_BYTES": stateBytes,
		"SPOOL_STATE_VERSION": stateVersion, "SPOOL_LOST": FlagLost, "SPOOL_UNDONE": FlagUndone,
		"SPOOL_PATH_MAX": PathBytesMax + 1, "SPOOL_NAME_MAX": nameBytesMax,
		"SPOOL_SEGMENT_MAGIC": segmentMagic, "SPOOL_SEGMENT_HEADER": SegmentHeaderBytes,
		"SPOOL_SEGMENT_BYTES": SegmentBytes, "SPOOL_FRAME_MAGIC": frameMagic,
		"SPOOL_FRAME_HEADER": FrameHeaderBytes, "SPOOL_LOG_ALLOWANCE": logAllowance,
		"SPOOL_FREE_FILES": freeFiles,
		"SPOOL_WRITE":      int(KindWrite), "SPOOL_TRUNCATE": int(KindTruncate),
		"SPOOL_COMMIT": int(KindCommit), "SPOOL_END": int(KindEnd),
		"SPOOL_CAUSE_NEW": int(CauseNew), "SPOOL_CAUSE_REPLACED": int(CauseReplaced),
		"SPOOL_CAUSE_FOREIGN": int(CauseForeign), "SPOOL_CAUSE_CRASH": int(CauseCrash),
		"SPOOL_CAUSE_LOG_FULL": int(CauseLogFull), "SPOOL_CAUSE_LOG_ERROR": int(CauseLogError),
		"SPOOL_CAUSE_WAL": int(CauseWAL), "SPOOL_CAUSE_IO": int(CauseIO),
		"SPOOL_CAUSE_TIMES": int(CauseTimes),
	} {
		var got any
		switch v := c[name]; {
		case v == nil:
		case v.Kind() == constant.String:
			got = constant.StringVal(v)
		default:
			n, _ := constant.Int64Val(v)
			got = int(n)
		}
		if got != want {
			t.Errorf("%s is %v in cgo/spool.h, and %v in Go", name, got, want)
		}
		delete(c, name)
	}
	for name, v := range c {
		if !strings.HasPrefix(name, "SPOOL_FILE_") {
			t.Errorf("%s = %v, in cgo/spool.h, is not compared with Go's", name, v)
		}
	}
}

// TestCFiles looks for the files that C makes in doc.go's list.
func TestCFiles(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, v := range cConstants(cHeader(t)) {
		if !strings.HasPrefix(name, "SPOOL_FILE_") || name == "SPOOL_FILE_STATE_NEW" {
			continue
		}
		n++
		file := constant.StringVal(v)
		if !regexp.MustCompile(`(?m)^//\t` + regexp.QuoteMeta(file) + ` `).Match(doc) {
			t.Errorf("%s, which cgo/spool.h has, is not in doc.go's list of files", file)
		}
	}
	if n != 3 {
		t.Errorf("%d files in cgo/spool.h", n)
	}
}

// TestCOffsets compares the offsets that C asserts with those of the page that Go has.
func TestCOffsets(t *testing.T) {
	at := map[string]uintptr{}
	s := reflect.TypeFor[page]()
	for i := range s.NumField() {
		if f := s.Field(i); f.Name != "_" {
			at[strings.ToLower(f.Name)] = f.Offset
		}
	}
	at["stamp"], at["path"], at["reserved"] = at["dbstamp"], at["pathfield"], at["lockino"]
	asserted := regexp.MustCompile(`SPOOL_AT\((\w+), (\d+)\)`).FindAllStringSubmatch(cHeader(t), -1)
	if len(asserted) < 40 {
		t.Errorf("cgo/spool.h asserts %d offsets only", len(asserted))
	}
	for _, m := range asserted {
		offset, _ := strconv.Atoi(m[2])
		if got, ok := at[strings.ToLower(m[1])]; !ok || got != uintptr(offset) {
			t.Errorf("%s is at %d in cgo/spool.h, and at %d in Go (known: %v)", m[1], offset, got,
				ok)
		}
	}
}
