package docs_test

import (
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// siteOf builds the site of a copy of the pages to which add is added.
func siteOf(t *testing.T, add string) (out string, err error) {
	t.Helper()
	built(t)
	mkdocs := os.Getenv("VERNEUIL_MKDOCS")
	if _, err := os.Stat(filepath.Join(mkdocs, "mkdocs")); mkdocs == "" || err != nil {
		t.Skip("no MkDocs (make deps says why)")
	}
	dir := t.TempDir()
	for _, from := range []string{"docs", "bench/published", "SECURITY.md", "CHANGELOG.md"} {
		to := filepath.Join(dir, filepath.Dir(from))
		out, err := exec.Command("sh", "-c", "mkdir -p "+to+" && cp -r "+filepath.Join(root, from)+
			" "+to).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, "docs/index.md"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(add); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := exec.CommandContext(t.Context(), "bash", filepath.Join(dir, "docs/site/build.sh"),
		dir, mkdocs, os.Getenv("VERNEUIL_CTL")).CombinedOutput()
	if err == nil {
		readsWell(t, filepath.Join(dir, "build/site"))
	}
	return string(b), err
}

// readsWell looks for what a browser would show of a table that is none: rows as text, and bars
// with what keeps them from being the end of a cell; of a list that ends too early, as MkDocs wants
// four spaces before what belongs to an item; and for code that is wider than a page.
func readsWell(t *testing.T, site string) {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(site, "*.html"))
	if err != nil || len(pages) < 20 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, file := range pages {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`<p>\|[^\n]*|<code>[^<\n]*\\\|[^\n]*`).
			FindAll(text, 3) {
			t.Errorf("%s: %s", filepath.Base(file), m)
		}
		for _, m := range regexp.MustCompile(`(?s)<pre>.*?</pre>`).FindAll(text, -1) {
			code := html.UnescapeString(tag.ReplaceAllString(string(m), ""))
			for line := range strings.Lines(code) {
				if utf8.RuneCountInString(line) > len("\n")+99 {
					t.Errorf("%s: wider than a page: %s", filepath.Base(file), line)
				}
			}
		}
		markdown := strings.TrimSuffix(filepath.Base(file), ".html") + ".md"
		source, err := os.ReadFile(filepath.Join(site, "../site-pages", markdown))
		if err != nil {
			continue // MkDocs's own
		}
		_, article, _ := strings.Cut(string(text), "<article")
		article, _, _ = strings.Cut(article, "</article>")
		fenced := regexp.MustCompile("(?ms)^ *```.*?^ *```")
		items := item.FindAll(fenced.ReplaceAll(source, nil), -1)
		if n := strings.Count(article, "<li>"); n != len(items) {
			t.Errorf("%s: %d items of lists, and %d in the source", markdown, n, len(items))
		}
	}
}

var (
	tag  = regexp.MustCompile(`<[^>]*>`)
	item = regexp.MustCompile(`(?m)^ *(?:[*-]|\d+\.) `)
)

// TestSite: the pages make a site, in which no link is dead.
func TestSite(t *testing.T) {
	if out, err := siteOf(t, ""); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestSiteDeadLinks: a link to no page, or to no heading, keeps the site from being built.
func TestSiteDeadLinks(t *testing.T) {
	out, err := siteOf(t, "\n[a](nowhere.md) [b](sql.md#nothing)\n")
	if err == nil || !strings.Contains(out, "nowhere.md") || !strings.Contains(out, "nothing") {
		t.Errorf("dead links: %v: %s", err, out)
	}
}

// TestSQLPage: docs/sql.md has every pragma and function of the library, and no other.
func TestSQLPage(t *testing.T) {
	names := func(text, pattern string) []string {
		var list []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			list = append(list, m[1])
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	code := names(page(t, "cgo/pragma.c")+page(t, "cgo/functions.c"),
		`(?:\] = \{|create_function\(db, )"(verneuil_\w+)"`)
	told := names(page(t, "docs/sql.md"), "(?m)^\\| `(verneuil_\\w+)")
	if !slices.Equal(code, told) || len(code) < 10 {
		t.Errorf("the code has\n%q\nand docs/sql.md\n%q", code, told)
	}
}
