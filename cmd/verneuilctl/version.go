package main

import (
	"fmt"
	"runtime"

	"github.com/mattn/go-sqlite3"
	"github.com/spf13/cobra"

	"verneuil/vfs"
)

func versionCommand() *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  atMost(0),
		RunE: func(*cobra.Command, []string) error {
			var err error
			if sqlite, _, _ := sqlite3.Version(); asJSON {
				err = printJSON(map[string]any{"version": vfs.Program, "go": runtime.Version(),
					"sqlite": sqlite})
			} else {
				_, err = fmt.Println(vfs.Program)
			}
			return fail(err, "version")
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false,
		"print the versions of verneuilctl, Go and the SQLite within as JSON")
	return command
}
