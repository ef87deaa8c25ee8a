package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"verneuil/test/e2e/harness"
)

// TestUnits: systemd takes the units among the examples.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
	units, err := filepath.Glob("../../examples/systemd/*")
	if err != nil || len(units) < 3 {
		t.Fatalf("%d units (%v)", len(units), err)
	}
	dir := t.TempDir()
	var copies []string
	for _, unit := range units {
		b, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		// the program and the alert are not installed here
		text := strings.ReplaceAll(string(b), "/usr/local/bin/verneuilctl", "/bin/true")
		text = strings.ReplaceAll(text, "OnFailure=alert@%n.service\n", "")
		name := filepath.Join(dir, filepath.Base(unit))
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, name)
	}
	out, err := exec.Command(analyze, append([]string{"verify"}, copies...)...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "verneuil") {
		t.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
}

// service is what examples say of one in a compose file, by the members that Compose's
// specification has.
type service struct {
	Image       string            `yaml:"image"`
	User        string            `yaml:"user"`
	Environment map[string]string `yaml:"environment"`
	Volumes     []string          `yaml:"volumes"`
	PID         string            `yaml:"pid"`
	Command     []string          `yaml:"command"`
	EnvFile     string            `yaml:"env_file"`
	Restart     string            `yaml:"restart"`
	Grace       time.Duration     `yaml:"stop_grace_period"`
}

// TestCompose: the example of containers has no member that is mistyped; application and replicator
// share what they have to; and the replicator's command runs, and ends when it is told to, in time.
func TestCompose(t *testing.T) {
	var file struct {
		Services map[string]service `yaml:"services"`
		Volumes  map[string]any     `yaml:"volumes"`
	}
	d := yaml.NewDecoder(strings.NewReader(page(t, "examples/container/compose.yaml")))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	app, replicator := file.Services["app"], file.Services["replicator"]
	if app.User != replicator.User || replicator.PID != "" ||
		!slices.Equal(app.Volumes, replicator.Volumes) || replicator.Restart != "always" {
		t.Errorf("they do not share what they have to: %+v, %+v", app, replicator)
	}
	config := strings.TrimPrefix(app.Environment["VERNEUIL_CONFIG"], "@")
	mounted := false
	for _, v := range app.Volumes {
		parts := strings.Split(v, ":")
		if _, declared := file.Volumes[parts[0]]; !declared && !strings.HasPrefix(parts[0], ".") {
			t.Errorf("no volume %s is declared", parts[0])
		}
		mounted = mounted || parts[1] == config
	}
	if !mounted || !slices.Contains(replicator.Command, config) {
		t.Errorf("%s is not mounted, or not the replicator's", config)
	}

	s := harness.DirSite(t)
	// The recipe's entry point is the tool.
	command := append([]string{harness.Built(t, "VERNEUIL_CTL")}, replicator.Command...)
	for i, word := range command {
		switch word {
		case config:
			command[i] = s.Path("verneuil.json")
		case "0.0.0.0:9380":
			command[i] = "127.0.0.1:0"
		}
	}
	p := harness.Start(t, nil, command...)
	if !p.Output.Scan() || !strings.HasPrefix(p.Output.Text(), "metrics at http://127.0.0.1:") {
		t.Fatalf("%q says %q, %s", command, p.Output.Text(), p.Stderr())
	}
	if linger := 10 * time.Second; replicator.Grace <= linger { // run's default
		t.Errorf("it is killed after %v, and sends for up to %v", replicator.Grace, linger)
	}
	if err := p.Command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.Wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.Stderr())
	}
}
