package locate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"verneuil/chunkstore"
	"verneuil/spool/sqlitefile"
)

// ReplicaFile is a small file that names a source, for programs that open databases by path and
// cannot give a URI: opened through verneuil_snapshot it is a replica of the source. It is text:
//
//	verneuil replica
//	source verneuil://HOST/PATH
//	auto_refresh 1
//
// HOST may be empty: the reader's own. The last line may be missing, or say 0. Nothing else may
// stand there. The source is always one of the reader's configured targets: a file that
// somebody else has made cannot send the reader elsewhere.
type ReplicaFile struct {
	Source      string // verneuil://HOST/PATH
	AutoRefresh *bool  // nil: as the reader's configuration has it
}

// replicaFileMagic is its first line. cgo/snapshot.c knows it, too.
const replicaFileMagic = "verneuil replica\n"

// replicaFileMax bounds its length: a PATH_MAX and a host.
const replicaFileMax = 8 << 10

// Encode returns the file's text. It is an error if Source is no name of a host's database.
func (f ReplicaFile) Encode() (string, error) {
	if !isNamed(f.Source) {
		return "", fmt.Errorf("source %q: want verneuil://HOST/PATH", Redacted(f.Source))
	}
	text := replicaFileMagic + "source " + f.Source + "\n"
	if f.AutoRefresh != nil && *f.AutoRefresh {
		text += "auto_refresh 1\n"
	} else if f.AutoRefresh != nil {
		text += "auto_refresh 0\n"
	}
	if len(text) > replicaFileMax {
		return "", fmt.Errorf("source of %d bytes", len(f.Source))
	}
	return text, nil
}

// parseReplicaFile is the inverse of [ReplicaFile.Encode]. Errors wrap ErrCorrupt.
func parseReplicaFile(text string) (f ReplicaFile, err error) {
	rest, ok := strings.CutPrefix(text, replicaFileMagic)
	if !ok || len(text) > replicaFileMax || !strings.HasSuffix(text, "\n") {
		return f, fmt.Errorf("%w: not a replica file", chunkstore.ErrCorrupt)
	}
	for line := range strings.Lines(rest) {
		word, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch {
		case word == "source" && f.Source == "" && isNamed(value):
			f.Source = value
		case word == "auto_refresh" && f.AutoRefresh == nil && (value == "0" || value == "1"):
			on := value == "1"
			f.AutoRefresh = &on
		case word == "source":
			return f, fmt.Errorf("%w: replica file: want one line: source verneuil://HOST/PATH",
				chunkstore.ErrCorrupt)
		default:
			return f, fmt.Errorf("%w: replica file: line %.60q", chunkstore.ErrCorrupt, line)
		}
	}
	if f.Source == "" {
		return f, fmt.Errorf("%w: replica file without a source", chunkstore.ErrCorrupt)
	}
	return f, nil
}

// isNamed reports whether uri is verneuil://HOST/PATH.
func isNamed(uri string) bool {
	rest, ok := strings.CutPrefix(uri, "verneuil://")
	_, path, slash := strings.Cut(rest, "/")
	return ok && slash && path != "" && !strings.ContainsAny(uri, "\x00\n\r")
}

// openReplicaFile reads the replica file at path. ok says that there is one; what is wrong
// with any other file, its reader says.
func openReplicaFile(path string) (f ReplicaFile, ok bool, err error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > replicaFileMax ||
		abandoned.has(info) {
		return f, false, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return f, false, nil
	}
	text, err := io.ReadAll(io.LimitReader(file, replicaFileMax+1))
	if !strings.HasPrefix(string(text), replicaFileMagic) {
		if strings.HasPrefix(string(text), sqlitefile.Magic) {
			abandoned.add(file, info)
		} else {
			file.Close()
		}
		return f, false, nil
	}
	f, parseErr := parseReplicaFile(string(text))
	return f, true, errors.Join(err, parseErr, file.Close())
}
