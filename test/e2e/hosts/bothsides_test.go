package hosts_test

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
	"verneuil/vfs"
)

// TestLevelsOfBothSides: the C side reads the environment for a level of the log as Go does.
func TestLevelsOfBothSides(t *testing.T) {
	s := harness.DirSite(t)
	s.Configure(map[string]any{"make_default": map[string]any{"exclude": []string{"not.db"}}})
	uri := ".open file:verneuil://h/a.db?vfs=verneuil_snapshot&immutable=1&auto_refresh=1"
	lines := map[slog.Level]string{ // what C says at each, of what happens below
		slog.LevelError: "auto_refresh=1 excludes immutable=1",
		slog.LevelInfo:  "make_default's exclude",
	}
	for _, env := range [][2]string{
		{"", ""}, {"off", "debug"}, {"error", ""}, {"warn", ""}, {"Warning", ""}, {"INFO", ""},
		{"debug", ""}, {"trace", ""}, {"nonsense", "info"}, {"", "info"}, {"", "hyper=debug,error"},
		{"", "hyper=info"}, {"", "verneuil=info,off"}, {"", "off, verneuil=error"},
		{"", "info,off"},
	} {
		t.Setenv("VERNEUIL_LOG", env[0])
		t.Setenv("RUST_LOG", env[1])
		logger, _ := vfs.NewLogger(vfs.LevelFromEnv(), io.Discard)
		r := harness.Run(t, []string{s.Env()}, harness.SQLiteShell(t), "-batch",
			"-cmd", ".load "+harness.Library(t), ":memory:", ".open "+s.Path("not.db"),
			"select count(*) from sqlite_schema;", uri)
		for level, line := range lines {
			want := logger.Enabled(t.Context(), level)
			if said := strings.Contains(r.Stderr, line); said != want {
				t.Errorf("VERNEUIL_LOG=%s RUST_LOG=%q: C says lines of %v: %v, Go: %v: %s",
					env[0], env[1], level, said, want, r.Stderr)
			}
		}
	}
}

// TestConfigurationOfBothSides: C, which must know make_default before Go runs, finds the file
// that VERNEUIL_CONFIG names as Go does.
func TestConfigurationOfBothSides(t *testing.T) {
	s := harness.DirSite(t)
	s.Configure(map[string]any{"make_default": true})
	for i, config := range []string{"@~/verneuil.json", " @~/verneuil.json\n",
		"@" + s.Path("verneuil.json") + " \t"} {
		r := harness.Run(t, []string{"HOME=" + s.Dir, "VERNEUIL_CONFIG=" + config},
			harness.SQLiteShell(t), "-batch", "-cmd", ".load "+harness.Library(t), ":memory:",
			".open "+s.Path(fmt.Sprint(i, ".db")), "create table t(x);",
			"pragma verneuil_flush_replication_data;")
		if r.Code != 0 || r.Stdout != "1\n" {
			t.Errorf("VERNEUIL_CONFIG=%q: exit code %d: %q, want 1: %s", config, r.Code, r.Stdout,
				r.Stderr)
		}
	}
}
