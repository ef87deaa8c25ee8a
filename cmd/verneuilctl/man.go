package main

import (
	"bytes"
	"errors"
	"fmt"
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
	markdown := false
	command := &cobra.Command{
		Use:   "man DIR | --markdown",
		Short: "Write the manual pages",
		Long: `Write the manual pages, one for each command, into a directory. They are made of what
--help prints. Their date is SOURCE_DATE_EPOCH, if that is set. With --markdown, print
all of it as one page instead.`,
		Hidden: true, // who installs a package has them
		RunE: func(command *cobra.Command, args []string) error {
			if markdown && len(args) == 0 {
				_, err := os.Stdout.WriteString(commandsPage(command.Root()))
				return fail(err, "man")
			}
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
	command.Flags().BoolVar(&markdown, "markdown", false, "print one page in Markdown")
	return command
}

// commandsPage is a page of the site (docs/site).
func commandsPage(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Each command\n\nWhat `--help` prints, of every command; " +
		"[verneuilctl](verneuilctl.md) is the shorter list.\n")
	var write func(c *cobra.Command)
	write = func(c *cobra.Command) {
		c.InitDefaultHelpFlag()
		about := c.Long
		if about == "" {
			about = c.Short + "."
		}
		fmt.Fprintf(&b, "\n## %s\n\n```text\n%s\n\n", c.CommandPath(), strings.TrimSpace(about))
		if c.Runnable() {
			fmt.Fprintf(&b, "Usage: %s\n\n", c.UseLine())
		}
		fmt.Fprintf(&b, "%s```\n", c.LocalFlags().FlagUsagesWrapped(usageColumns))
		for _, below := range c.Commands() {
			if below.IsAvailableCommand() && below.Name() != "completion" {
				write(below)
			}
		}
	}
	write(root)
	return b.String()
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
