package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"text/tabwriter"

	"github.com/mattn/go-sqlite3"
	"github.com/spf13/cobra"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/spool"
	"verneuil/vfs"
)

// commit names the source that this program was built from. The Makefile sets it; empty: the build
// information is asked.
var commit string

// built is what version says.
type built struct {
	Version  string  `json:"version"`
	Commit   string  `json:"commit"` // "unknown" where nobody knows it
	Go       string  `json:"go"`
	Platform string  `json:"platform"` // such as "linux/amd64"
	SQLite   string  `json:"sqlite"`   // the one within: a host of the extension has its own
	Formats  formats `json:"formats"`
}

// formats are the versions of what is stored, as this program writes it.
type formats struct {
	Manifest int `json:"manifest"`
	Record   int `json:"record"`
	Pack     int `json:"pack"`
	Object   int `json:"object"`
	Bucket   int `json:"bucket"`
	Spool    int `json:"spool"`
}

func thisBuild() built {
	sqlite, _, _ := sqlite3.Version()
	return built{Version: vfs.Program, Commit: builtFrom(), Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, SQLite: sqlite,
		Formats: formats{manifest.FormatVersion, history.FormatVersion, chunkstore.FormatPack,
			chunkstore.FormatObject, chunkstore.FormatMarker, spool.FormatVersion}}
}

func builtFrom() string {
	if commit != "" {
		return commit
	}
	revision, modified := "unknown", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = "-dirty"
			}
		}
	}
	return revision + modified
}

func versionCommand() *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit, the formats and the SQLite within",
		Long: `Print the version, the commit that it was built from, the versions of the formats that it
writes, and of the SQLite within. A program that loads the extension uses its own SQLite, and
"select verneuil_version()" there says which extension it has.`,
		Args: atMost(0),
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			if asJSON {
				return fail(printJSON(b), "version")
			}
			f := b.Formats
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintf(w, "%s\ncommit\t%s\nbuilt with\t%s %s\nsqlite\t%s\n", b.Version, b.Commit,
				b.Go, b.Platform, b.SQLite)
			fmt.Fprintf(w, "formats\tmanifest %d, record %d, pack %d, object %d, bucket %d, "+
				"spool %d\n", f.Manifest, f.Record, f.Pack, f.Object, f.Bucket, f.Spool)
			return fail(w.Flush(), "version")
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print it as one JSON object")
	return command
}
