package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestPicturesTell: what docs/pictures.md says of each plot is made of the figures of the plot that
// is published.
func TestPicturesTell(t *testing.T) {
	page, err := os.ReadFile("../docs/pictures.md")
	if err != nil {
		t.Fatal(err)
	}
	told, err := tell(string(page), "published")
	if err != nil {
		t.Fatal(err)
	}
	if told != string(page) {
		t.Errorf("docs/pictures.md lags behind bench/published: make bench-publish writes\n%s",
			told)
	}
	if n := strings.Count(told, toldBegin); n != 6 || strings.Count(told, "\n![") != n {
		t.Errorf("%d plots are told of, of %d", n, strings.Count(told, "\n!["))
	}
}

// TestBulkTells: the speeds of both directions, beside Litestream's and those of plain requests;
// what was not measured has no bar.
func TestBulkTells(t *testing.T) {
	p := &plot{name: "bulk", series: []series{{name: "1 GiB, minio"}}}
	for i, step := range bulkSteps {
		p.labels = append(p.labels, label(step.name))
		v := spread{}
		if step.name != coresOnly {
			v = single(float64(i + 1))
		}
		p.series[0].values = append(p.series[0].values, v)
	}
	svg := p.svg()
	if strings.Contains(svg, label(coresOnly)) || !strings.Contains(svg, ">cp, sync<") {
		t.Errorf("the plot is %s", svg)
	}
	want := "A first copy of 1 GiB to minio runs at 8.00 MB a second, 0.57 times Litestream's " +
		"speed, and 0.89 times that of plain requests. A restore of 1 GiB from minio runs at " +
		"10.00 MB a second, 0.67 times Litestream's speed, and 0.91 times that of plain requests."
	if got := p.figures().tells(); got != want {
		t.Errorf("it tells %q, want %q", got, want)
	}
}

// TestFiguresInPlots: an SVG has the figures that it was drawn of, and other figures tell something
// else.
func TestFiguresInPlots(t *testing.T) {
	p := &plot{name: "bill", title: "a < b", axis: "USD", labels: []string{"1 commits/s"},
		series: []series{{"verneuil & others", []spread{{1, 2, 3, 4}}}, {"none", []spread{{}}}}}
	file := filepath.Join(t.TempDir(), "a.svg")
	if err := os.WriteFile(file, []byte(p.svg()), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := figuresOf(file)
	if err != nil || !reflect.DeepEqual(f, p.figures()) {
		t.Fatalf("%+v, %v; want %+v", f, err, p.figures())
	}
	want := "At 1 commits/s, the requests of a month cost 2.00 USD (verneuil & others)."
	if got := f.tells(); got != want {
		t.Errorf("it tells %q, want %q", got, want)
	}
	page := "![x](../published/a.svg)\n\n" + toldBegin + "old\n" + toldEnd + "after"
	told, err := tell(page, filepath.Dir(file))
	if want := strings.Replace(page, "old", want, 1); err != nil || told != want {
		t.Errorf("%q, %v; want %q", told, err, want)
	}
	if _, err := tell(strings.Replace(page, "a.svg", "b.svg", 1), filepath.Dir(file)); err == nil {
		t.Error("a plot that is not there is told of")
	}
}
