package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// plot is a chart: bars with whiskers, one group for each label, or lines over x.
type plot struct {
	name, part, title string
	axis              string // what the value is
	base              float64
	labels            []string  // bars: one for each group
	x                 []float64 // lines, on a logarithmic scale
	xLabels           []string
	series            []series
	log               bool // the value's scale
}

// series is a colour of a plot: a value for each label or x. N 0 is left out.
type series struct {
	name   string
	values []spread
}

func single(v float64) spread {
	if v <= 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return spread{}
	}
	return spread{v, v, v, 1}
}

var colours = []string{"#1f6fb4", "#e07b1a", "#3a9d4b", "#9a5fc0", "#8a8a8a"}

const (
	plotWidth  = 760
	plotLeft   = 210
	plotRight  = 30
	plotTop    = 46
	barHeight  = 9
	groupSpace = 9
)

// svg draws it. Text is dark on white, so that it can be read in any theme.
func (p *plot) svg() string {
	if len(p.x) > 0 {
		return p.lines()
	}
	return p.bars()
}

func open(b *strings.Builder, height int, p *plot) {
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" `+
		`font-family="sans-serif" font-size="12" fill="#222">`+"\n", plotWidth, height)
	b.WriteString(p.figures().metadata())
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", plotWidth, height)
	fmt.Fprintf(b, `<text x="12" y="20" font-size="14" font-weight="bold">%s</text>`+"\n",
		html.EscapeString(p.title))
	x := 12
	for i, s := range p.series {
		fmt.Fprintf(b, `<rect x="%d" y="30" width="10" height="10" fill="%s"/><text x="%d" `+
			`y="39">%s</text>`+"\n",
			x, colours[i%len(colours)], x+14, html.EscapeString(s.name))
		x += 34 + 7*len(s.name)
	}
}

// limits of the values, the base included.
func (p *plot) limits() (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, s := range p.series {
		for _, v := range s.values {
			if v.N > 0 {
				low, high = min(low, v.Min), max(high, v.Max)
			}
		}
	}
	if p.base > 0 {
		low, high = min(low, p.base), max(high, p.base)
	}
	if math.IsInf(low, 0) {
		return 0.1, 1
	}
	if p.log {
		return max(low/1.3, 1e-9), high * 1.3
	}
	return 0, high * 1.05
}

// scale maps a value to from 0 to 1.
func (p *plot) scale(v, low, high float64) float64 {
	if p.log {
		return (math.Log(max(v, low)) - math.Log(low)) / (math.Log(high) - math.Log(low))
	}
	return (v - low) / (high - low)
}

// ticks are round values between the limits.
func (p *plot) ticks(low, high float64) (all []float64) {
	if p.log {
		steps := []float64{1, 2, 5}
		if high/low > 1000 {
			steps = []float64{1}
		}
		for d := math.Floor(math.Log10(low)); d <= math.Log10(high); d++ {
			for _, m := range steps {
				if v := m * math.Pow(10, d); v >= low && v <= high {
					all = append(all, v)
				}
			}
		}
		return all
	}
	decade, step := math.Pow(10, math.Floor(math.Log10(high/8))), 0.0
	for _, m := range []float64{1, 2, 5, 10} {
		if step = m * decade; high/step <= 8 {
			break
		}
	}
	for v := 0.0; v <= high; v += step {
		all = append(all, v)
	}
	return all
}

// withoutGaps is the plot without groups that nothing was measured of.
func (p *plot) withoutGaps() *plot {
	q := *p
	q.labels, q.series = nil, make([]series, len(p.series))
	for i, s := range p.series {
		q.series[i].name = s.name
	}
	for g, label := range p.labels {
		if !slices.ContainsFunc(p.series, func(s series) bool {
			return g < len(s.values) && s.values[g].N > 0
		}) {
			continue
		}
		q.labels = append(q.labels, label)
		for i, s := range p.series {
			v := spread{}
			if g < len(s.values) {
				v = s.values[g]
			}
			q.series[i].values = append(q.series[i].values, v)
		}
	}
	return &q
}

func (p *plot) bars() string {
	p = p.withoutGaps()
	var b strings.Builder
	group := barHeight*len(p.series) + groupSpace
	height := plotTop + group*len(p.labels) + 40
	open(&b, height, p)
	low, high := p.limits()
	width := float64(plotWidth - plotLeft - plotRight)
	at := func(v float64) float64 { return plotLeft + width*p.scale(v, low, high) }
	bottom := height - 34
	for _, v := range p.ticks(low, high) {
		fmt.Fprintf(&b, `<path d="M%.1f %d V%d" stroke="#ddd"/><text x="%.1f" y="%d" `+
			`text-anchor="middle" font-size="11">%s</text>`+"\n",
			at(v), plotTop, bottom, at(v), bottom+14, tick(v))
	}
	for g, label := range p.labels {
		y := plotTop + g*group + groupSpace/2
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", plotLeft-8,
			y+(group-groupSpace)/2+4, html.EscapeString(label))
		for i, s := range p.series {
			if s.values[g].N == 0 {
				continue
			}
			v, top := s.values[g], y+i*barHeight
			fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n",
				at(low), top, max(0.5, at(v.Median)-at(low)), barHeight-1, colours[i%len(colours)])
			if v.Max > v.Min {
				fmt.Fprintf(&b, `<path d="M%.1f %.1f H%.1f" stroke="#222" stroke-width="1.2"/>`+
					"\n", at(v.Min), float64(top)+barHeight/2.0-0.5, at(v.Max))
			}
		}
	}
	if p.base > 0 {
		fmt.Fprintf(&b, `<path d="M%.1f %d V%d" stroke="#c22" stroke-width="1.5" `+
			`stroke-dasharray="4 3"/>`+"\n", at(p.base), plotTop, bottom)
	}
	fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle" font-size="11">%s</text>`+
		"\n</svg>\n", plotLeft+width/2, bottom+29, html.EscapeString(p.axis))
	return b.String()
}

func tick(v float64) string {
	if v >= 1 || v == 0 {
		return strings.TrimSuffix(fmt.Sprintf("%.4g", v), ".0")
	}
	return fmt.Sprintf("%.2g", v)
}

func (p *plot) lines() string {
	const height, left = 340, 70
	var b strings.Builder
	open(&b, height, p)
	low, high := p.limits()
	bottom, width := height-48, float64(plotWidth-left-plotRight)
	y := func(v float64) float64 {
		return float64(bottom) - float64(bottom-plotTop-8)*p.scale(v, low, high)
	}
	first, last := math.Log(p.x[0]), math.Log(p.x[len(p.x)-1])
	x := func(v float64) float64 {
		if last == first {
			return left + width/2
		}
		return left + 20 + (width-40)*(math.Log(v)-first)/(last-first)
	}
	for _, v := range p.ticks(low, high) {
		fmt.Fprintf(&b, `<path d="M%d %.1f H%d" stroke="#ddd"/><text x="%d" y="%.1f" `+
			`text-anchor="end" font-size="11">%s</text>`+"\n",
			left, y(v), plotWidth-plotRight, left-6, y(v)+4, tick(v))
	}
	for i, v := range p.x {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle" font-size="11">%s</text>`+"\n",
			x(v), bottom+16, html.EscapeString(p.xLabels[i]))
	}
	for i, s := range p.series {
		var path strings.Builder
		colour := colours[i%len(colours)]
		for k, v := range s.values {
			if v.N == 0 {
				continue
			}
			letter := "L"
			if path.Len() == 0 {
				letter = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1f ", letter, x(p.x[k]), y(v.Median))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x(p.x[k]),
				y(v.Median), colour)
			if v.Max > v.Min {
				fmt.Fprintf(&b, `<path d="M%.1f %.1f V%.1f" stroke="%s"/>`+"\n", x(p.x[k]),
					y(v.Min), y(v.Max), colour)
			}
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n",
			strings.TrimSpace(path.String()), colour)
	}
	if p.base > 0 {
		fmt.Fprintf(&b, `<path d="M%d %.1f H%d" stroke="#c22" stroke-width="1.5" `+
			`stroke-dasharray="4 3"/>`+"\n", left, y(p.base), plotWidth-plotRight)
	}
	fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle" font-size="11">%s</text>`+
		"\n</svg>\n", left+width/2, bottom+36, html.EscapeString(p.axis))
	return b.String()
}
