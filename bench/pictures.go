package main

import (
	"encoding/json"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// figures are what a plot shows. They stand in its SVG, so that what a page says of a published
// plot is made of the same figures, whenever that is.
type figures struct {
	Name   string
	Groups []string // labels of bars, or of x
	Series []figure
}

type figure struct {
	Name   string
	Values []spread // one for each group; N 0: there is none
}

func (p *plot) figures() figures {
	f := figures{Name: p.name, Groups: p.labels}
	if len(p.x) > 0 {
		f.Groups = p.xLabels
	}
	for _, s := range p.series {
		f.Series = append(f.Series, figure{s.name, s.values})
	}
	return f
}

const metadataBegin, metadataEnd = "<metadata>", "</metadata>"

// metadata is the element of the SVG that has them.
func (f figures) metadata() string {
	body, err := json.Marshal(f)
	if err != nil {
		panic(err) // spreads of what a run measured are finite
	}
	return metadataBegin + html.EscapeString(string(body)) + metadataEnd + "\n"
}

// figuresOf reads the figures of a plot's file.
func figuresOf(file string) (f figures, err error) {
	svg, err := os.ReadFile(file)
	if err != nil {
		return f, err
	}
	_, rest, begins := strings.Cut(string(svg), metadataBegin)
	text, _, ends := strings.Cut(rest, metadataEnd)
	if !begins || !ends {
		return f, fmt.Errorf("%s has no figures in it", file)
	}
	if err = json.Unmarshal([]byte(html.UnescapeString(text)), &f); err != nil {
		return f, fmt.Errorf("%s: %w", file, err)
	}
	return f, nil
}

// tells returns the sentence about the figures of a plot of one of the six kinds.
func (f figures) tells() string {
	switch f.Name {
	case "commits":
		return f.tellsCommits()
	case "lag":
		return f.tellsEach("At %s commits/s, half of them are stored within ",
			func(v spread) string {
				return fmt.Sprintf("%s ms, and 99 %% within %s ms", short(v.Median), short(v.Max))
			})
	case "bill":
		return f.tellsEach("At %s, the requests of a month cost ", func(v spread) string {
			return fmt.Sprintf("%.2f USD", v.Median)
		})
	case "bulk":
		return f.tellsBulk()
	case "growth":
		return f.tellsGrowth()
	}
	return ""
}

// tellsCommits: the least and the most of each series, and what is at them.
func (f figures) tellsCommits() string {
	var parts []string
	for _, s := range f.Series {
		least, most := -1, -1
		for i, v := range s.Values {
			switch {
			case v.N == 0:
				continue
			case least < 0:
				least, most = i, i
			}
			if v.Median < s.Values[least].Median {
				least = i
			}
			if v.Median > s.Values[most].Median {
				most = i
			}
		}
		if least >= 0 {
			parts = append(parts, fmt.Sprintf("%s (`%s`) to %s (`%s`) times as long as stock "+
				"SQLite's (%s)", short(s.Values[least].Median), f.Groups[least],
				short(s.Values[most].Median), f.Groups[most], s.Name))
		}
	}
	return "A commit or a read takes " + strings.Join(parts, ", and ") + "."
}

// tellsEach: a sentence for each group, in which every series has a part.
func (f figures) tellsEach(begins string, says func(spread) string) string {
	var sentences []string
	for i, group := range f.Groups {
		var parts []string
		for _, s := range f.Series {
			if i < len(s.Values) && s.Values[i].N > 0 {
				parts = append(parts, fmt.Sprintf("%s (%s)", says(s.Values[i]), s.Name))
			}
		}
		if len(parts) > 0 {
			sentences = append(sentences, fmt.Sprintf(begins, group)+strings.Join(parts, ", or ")+
				".")
		}
	}
	return strings.Join(sentences, " ")
}

// tellsBulk: ours and Litestream's, and plain requests for the same objects.
func (f figures) tellsBulk() string {
	var sentences []string
	for _, s := range f.Series {
		at := func(group string) (float64, bool) {
			i := slices.Index(f.Groups, group)
			if i < 0 || i >= len(s.Values) || s.Values[i].N == 0 {
				return 0, false
			}
			return s.Values[i].Median, true
		}
		for _, way := range []struct{ what, ours, other, raw string }{
			{"A first copy of %s to %s", label(syncS3), litestreamSync, label(rawPuts)},
			{"A restore of %s from %s", label(restoreS3), litestreamRestore, label(rawGets)},
		} {
			ours, ok := at(way.ours)
			if !ok {
				continue
			}
			size, store, _ := strings.Cut(s.Name, ", ")
			text := fmt.Sprintf(way.what+" runs at %s MB a second", size, store, short(ours))
			if v, ok := at(way.other); ok {
				text += fmt.Sprintf(", %s times Litestream's speed", short(over(ours, v)))
			}
			if v, ok := at(way.raw); ok {
				text += fmt.Sprintf(", and %s times that of plain requests", short(over(ours, v)))
			}
			sentences = append(sentences, text+".")
		}
	}
	return strings.Join(sentences, " ")
}

// tellsGrowth: the largest database to the smallest.
func (f figures) tellsGrowth() string {
	last := len(f.Groups) - 1
	var parts []string
	for _, s := range f.Series {
		if last < len(s.Values) && s.Values[last].N > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", s.Name, short(s.Values[last].Median)))
		}
	}
	return fmt.Sprintf("From %s to %s: %s times.", f.Groups[0], f.Groups[last],
		strings.Join(parts, ", "))
}

const (
	toldBegin = "<!-- what it tells: begin -->\n"
	toldEnd   = "<!-- what it tells: end -->"
)

// tell returns the page with each plot's sentence, between marks that follow the plot.
func tell(page, dir string) (string, error) {
	var b strings.Builder
	rest := page
	for {
		before, after, ok := strings.Cut(rest, toldBegin)
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		_, after, ok = strings.Cut(after, toldEnd)
		plot := before[strings.LastIndex(before, "](")+2:]
		plot, _, isPlot := strings.Cut(plot, ")")
		if !ok || !isPlot {
			return "", fmt.Errorf("marks that follow no plot: %q", before)
		}
		f, err := figuresOf(filepath.Join(dir, filepath.Base(plot)))
		if err != nil {
			return "", err
		}
		b.WriteString(toldBegin + f.tells() + "\n" + toldEnd)
		rest = after
	}
}

// tellAll writes the sentences of the page file about the plots in dir.
func tellAll(file, dir string) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	told, err := tell(string(page), dir)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(told), 0o644)
}
