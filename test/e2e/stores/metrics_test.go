package stores_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"

	"verneuil/test/e2e/harness"
)

// jsonNames are those of metrics that status --json has under other names.
var jsonNames = map[string]string{
	"failing": "error", "target_failing": "error", "target_requests_total": "calls",
	"target_last_version_timestamp_seconds": "manifest",
}

// TestMetricNames: metrics are as Prometheus wants them. The chapter on them, alerts included,
// names all that there are, and no others, and status --json and verneuil_status() have them, too.
func TestMetricNames(t *testing.T) {
	s := harness.DirSite(t)
	s.Configure(map[string]any{"patrol_days": 1})
	shell := s.Written("a.db", "wal")
	shell.Flush()
	var status struct{ Databases []map[string]any }
	shell.Status(&status)
	s.Ctl("verify", "--drill")
	var outside map[string]any
	harness.Until(t, "status has what the replicator leaves for it every two seconds", func() bool {
		text := s.Ctl("status", "--proof", "--json")
		outside = nil
		harness.Must(t, json.Unmarshal([]byte(text), &outside))
		return strings.Contains(text, `"manifest"`)
	})
	once := s.Ctl("status", "--proof", "--prometheus")
	run := startRun(s) // who begins to replicate knows of no version for a moment
	response, err := http.Get(run.metrics)
	harness.Must(t, err)
	defer response.Body.Close()
	scraped, err := io.ReadAll(response.Body)
	harness.Must(t, err)
	for what, text := range map[string]string{"status": once, "run": string(scraped)} {
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("the metrics of %s: %v: %+v", what, err, problems)
		}
	}
	families, err := new(expfmt.TextParser).TextToMetricFamilies(strings.NewReader(once))
	harness.Must(t, err)

	page, err := os.ReadFile("../../../docs/operations.md")
	harness.Must(t, err)
	_, chapter, _ := strings.Cut(string(page), "\n## Metrics and alerts\n")
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	told := regexp.MustCompile(`verneuil_[a-z_]*[a-z]\b`).FindAllString(chapter, -1)
	told = slices.DeleteFunc(told, func(name string) bool { return name == "verneuil_status" })
	if len(told) < len(families) {
		t.Fatalf("the chapter names only %q", told)
	}
	for _, name := range told {
		if families[name] == nil {
			t.Errorf("docs/operations.md names %s, which is no metric", name)
		}
	}
	for name := range families {
		if !slices.Contains(told, name) {
			t.Errorf("docs/operations.md does not name %s", name)
		}
		// Of an error, of a patrol, and of a proof, verneuil_status() has nothing here.
		if strings.HasSuffix(name, "failing") || strings.Contains(name, "patrolled") {
			continue
		}
		mustHave(t, name, outside)
		if !strings.Contains(name, "proof") {
			mustHave(t, name, status.Databases[0])
		}
	}
}

// mustHave: what status says of a database has the metric, under the name that is told.
func mustHave(t *testing.T, metric string, of map[string]any) {
	t.Helper()
	name := strings.TrimPrefix(metric, "verneuil_")
	short := strings.TrimSuffix(strings.TrimSuffix(name, "_total"), "_timestamp_seconds")
	if other := jsonNames[name]; other != "" {
		short = other
	}
	if ofTarget := strings.TrimPrefix(short, "target_"); strings.HasPrefix(name, "target_") {
		short = ofTarget
		of, _ = of["targets"].([]any)[0].(map[string]any)
	}
	if _, ok := of[short]; !ok {
		t.Errorf("%s should be %q in %v", metric, short, of)
	}
}
