package main

import (
	"cmp"
	"fmt"
	"os"
	"time"

	"github.com/dustin/go-humanize"

	"verneuil/replicate/versions"
)

// name is how messages name the database.
func (one *drilled) name() string {
	if one.host == "" {
		return cmp.Or(one.path, one.key)
	}
	return one.host + ":" + one.path
}

func (one *drilled) verdict() string {
	if one.err != nil {
		return "FAILED"
	}
	return "ok"
}

// print prints a line for each database in each target.
func (d *drill) print() error {
	if d.o.asJSON {
		return d.printJSON()
	}
	if len(d.all) == 0 {
		return nil
	}
	out := newTable(len(d.store.Targets) > 1)
	out.row("TARGET", "VERDICT", "HOST", "PATH", "VERSION", "SIZE", "SECONDS", "SOURCE")
	for _, one := range d.all {
		version, size := "-", "-"
		if m := one.manifest; m != nil {
			version, size = humanize.Time(m.Time), humanBytes(m.FileBytes)
		}
		out.row(one.target.Name, one.verdict(), one.host, cmp.Or(one.path, one.key), version, size,
			fmt.Sprintf("%.1f", one.seconds), cmp.Or(one.source, "-"))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	for _, one := range d.all {
		if one.note != "" {
			fmt.Fprintln(os.Stderr, oneLine("verneuilctl: "+one.target.Name+": "+one.name()+": "+
				one.note))
		}
	}
	return nil
}

func (d *drill) printJSON() error {
	failed := 0
	for _, one := range d.all {
		if one.err != nil {
			failed++
		}
		if err := printJSON(one.json()); err != nil {
			return err
		}
	}
	return printJSON(map[string]any{"databases": len(d.all), "failed": failed})
}

// json is what --json prints of one.
func (one *drilled) json() map[string]any {
	line := map[string]any{
		"target": one.target.Name, "manifest": one.key, "host": one.host, "path": one.path,
		"seconds": one.seconds, "ok": one.err == nil, "proof_kept": one.kept,
	}
	if m := one.manifest; m != nil {
		line["epoch"], line["sequence"], line["time"] = m.Epoch, m.Sequence, m.Time.UTC()
		line["version_id"] = versions.IDOf(m.At).String()
		line["age_seconds"] = int64(time.Since(m.Time).Seconds())
		line["file_bytes"] = m.FileBytes
	}
	if one.integrity != "" {
		line["integrity"], line["foreign_key_violations"] = one.integrity, one.violations
	}
	if one.source != "" {
		line["source"] = one.source
	}
	if one.note != "" {
		line["note"] = one.note
	}
	if one.err != nil {
		line["error"] = one.err.Error()
	}
	return line
}
