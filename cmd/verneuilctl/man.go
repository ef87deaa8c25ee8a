package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"verneuil/vfs"
)

// manEnd is what the page of verneuilctl itself says beside what its definition says.
const manEnd = `.SH ENVIRONMENT
.TP
\fBVERNEUIL_CONFIG\fP
The configuration: JSON, or @ and the path of a file.
.TP
\fBVERNEUIL_LOG\fP
error, warn (the default), info, debug or off.
.TP
\fBAWS_ACCESS_KEY_ID\fP, \fBAWS_SECRET_ACCESS_KEY\fP, \fBAWS_PROFILE\fP, ...
Credentials for S3, from where every AWS program finds them. They are never in the configuration.
.SH EXIT STATUS
0: done. 1: failed. 2: wrong usage. 130: interrupted (143: by SIGTERM).
.SH EXAMPLES
.EX
verneuilctl --config /etc/verneuil.json sync app.db
verneuilctl --config /etc/verneuil.json restore app.db --out copy.db
verneuilctl --config /etc/verneuil.json shell app.db -- 'select count(*) from t'
.EE
`

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages",
		Long: `Write the manual pages, one for each command, into a directory. They are made of what
--help prints. Their date is SOURCE_DATE_EPOCH, if that is set.`,
		Hidden: true, // who installs a package has them
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("which directory? give one")
			}
			date := time.Now()
			if s := os.Getenv("SOURCE_DATE_EPOCH"); s != "" {
				seconds, err := strconv.ParseInt(s, 10, 64)
				if err != nil {
					return fail(err, "SOURCE_DATE_EPOCH")
				}
				date = time.Unix(seconds, 0)
			}
			return fail(writeManual(command.Root(), args[0], date.UTC()), "man", args[0])
		},
	}
}

// writeManual writes the pages of a command and of those below it.
func writeManual(command *cobra.Command, dir string, date time.Time) error {
	for _, c := range command.Commands() {
		if c.IsAvailableCommand() && !c.IsAdditionalHelpTopicCommand() {
			if err := writeManual(c, dir, date); err != nil {
				return err
			}
		}
	}
	command.DisableAutoGenTag = true
	header := &doc.GenManHeader{Section: "1", Date: &date, Source: vfs.Program,
		Manual: "Verneuil"}
	var b bytes.Buffer
	if err := doc.GenMan(command, header, &b); err != nil {
		return err
	}
	text := b.String()
	if !command.HasParent() {
		before, after, _ := strings.Cut(text, ".SH SEE ALSO")
		commands := ".SH COMMANDS\n"
		for _, c := range command.Commands() {
			if c.IsAvailableCommand() {
				commands += ".TP\n\\fB" + strings.ReplaceAll(c.Name(), "-", `\-`) + "\\fP\n" +
					c.Short + ".\n"
			}
		}
		text = before + commands + manEnd + ".SH SEE ALSO" + after
	}
	name := strings.ReplaceAll(command.CommandPath(), " ", "-") + ".1"
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
}
