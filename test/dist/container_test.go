package dist

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// containers runs podman, with images and containers in a place.
type containers struct {
	*place
	podman []string // with what this machine wants
	image  string
}

const containerConfig = `{"make_default": true, "hostname": "shop",
	"replication_spooling_dir": "/data/spool",
	"replication_targets": [{"dir": {"path": "/data/store"}}]}`

// arguments are podman run, of a user who is not root, and options.
func (c *containers) arguments(options ...string) []string {
	argv := append(c.podman[:len(c.podman):len(c.podman)], "run", "--network=host",
		"--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--user=1000:1000",
		"--workdir=/data", "--volume="+c.path("data")+":/data",
		"--env=VERNEUIL_CONFIG=@/data/verneuil.json")
	return append(argv, options...)
}

// tool is verneuilctl, the entry point of the image.
func (c *containers) tool(argv ...string) string {
	c.Helper()
	return c.run(append(c.arguments("--rm", c.image), argv...)...)
}

// shell is the sqlite3 shell there.
func (c *containers) shell(argv ...string) string {
	c.Helper()
	return c.run(append(c.arguments("--rm", "--entrypoint=sqlite3", c.image), argv...)...)
}

// TestContainer: the recipe makes an image, of a Debian that has nothing but its base, by apt-get
// with all that the package depends on; in containers of it a database is written, flushed,
// verified and restored, and the example of an application that records beside a replicator works.
func TestContainer(t *testing.T) {
	if os.Getenv("VERNEUIL_DIST_LONG") == "" {
		t.Skip("VERNEUIL_DIST_LONG is not set: make dist sets it")
	}
	deb := made(t, "*.deb")
	needs(t, "podman", "debootstrap", "tar")
	if os.Getuid() != 0 {
		t.Skip("debootstrap wants root")
	}
	c := &containers{place: newPlace(t, true), podman: []string{"podman"}, image: "verneuil"}
	c.env = append(c.env, "CONTAINERS_STORAGE_CONF="+c.path("storage.conf"))
	c.write("storage.conf", "[storage]\ndriver = \"vfs\"\nrunroot = \""+c.path("run")+
		"\"\ngraphroot = \""+c.path("graph")+"\"\n")
	c.run("debootstrap", "--variant=minbase", "bookworm", c.path("debian"))
	// By the name that the recipe asks for.
	c.run("sh", "-c", "tar -C debian -c . | "+
		"podman import -q - docker.io/library/debian:bookworm-slim")
	c.run("rm", "-rf", c.path("debian"))
	c.run("mkdir", "-p", "recipe", "data")
	c.run("cp", deb, filepath.Join(filepath.Dir(deb), "Containerfile"), "recipe")
	c.run("podman", "build", "-q", "--isolation=chroot", "--network=host", "--pull=never",
		"-t", c.image, "recipe")
	c.write("data/verneuil.json", containerConfig)
	c.run("chown", "-R", "1000:1000", "data")
	c.starts()
	t.Cleanup(func() { _ = exec.Command("sh", "-c", "rm -rf "+c.path("graph")).Run() })

	c.shell(":memory:", ".load libverneuil_vfs", ".open app.db", "create table t(x)",
		"insert into t values(7)", "select verneuil_flush()")
	if out := c.tool("verify"); !strings.Contains(out, "versions: 1,") {
		t.Errorf("verify says %q", out)
	}
	c.tool("restore", "app.db", "--out", "copy.db")
	c.says("7\n", "sqlite3", "data/copy.db", "select x from t")
	c.records()
}

// starts finds out how a container is started here: where there are cgroups of the first version,
// crun does not do it.
func (c *containers) starts() {
	c.Helper()
	var said string
	for _, way := range [][]string{nil, {"--runtime=runc", "--cgroup-manager=cgroupfs"}} {
		c.podman = append([]string{"podman"}, way...)
		out, err := c.try(append(c.arguments("--rm", c.image), "version")...)
		if err == nil && strings.Contains(out, version(c.T)) {
			return
		}
		said += out
	}
	c.Skipf("the image is made, and podman starts no container here: %s", said)
}

// records: an application is killed in a transaction, with the recorder alone; the replicator in
// the other container lives, sends what had been committed, and what the next application commits.
func (c *containers) records() {
	c.Helper()
	command := composed(c.T, "replicator")
	c.run(append(c.arguments("--detach", "--name=replicator", c.image), command...)...)
	app := exec.CommandContext(c.Context(), c.podman[0], c.arguments("--interactive", "--name=app",
		"--entrypoint=sqlite3", c.image, ":memory:")[1:]...)
	app.Env, app.Stderr = c.env, os.Stderr
	in, err := app.StdinPipe()
	if err != nil {
		c.Fatal(err)
	}
	out, err := app.StdoutPipe()
	if err != nil {
		c.Fatal(err)
	}
	if err := app.Start(); err != nil {
		c.Fatal(err)
	}
	if _, err := io.WriteString(in, `.load libverneuil_recorder
.open app.db
insert into t values(8);
pragma cache_size=5;
begin;
insert into t select randomblob(5000) from generate_series(1, 100);
.print in it
`); err != nil {
		c.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "in it\n" {
		c.Fatalf("the application says %q, %v", line, err)
	}
	c.run(append(c.podman[:len(c.podman):len(c.podman)], "kill", "--signal=KILL", "app")...)
	if err := app.Wait(); err == nil {
		c.Error("the application was not killed")
	}
	c.says("1\n", c.arguments("--rm", "--entrypoint=sqlite3", c.image, ":memory:",
		".load libverneuil_recorder", ".open app.db", "insert into t values(9)",
		"select verneuil_flush()")...)
	podman := c.podman[:len(c.podman):len(c.podman)]
	c.run(append(podman, "stop", "--time=60", "replicator")...)
	c.says("0\n", append(podman, "inspect", "--format={{.State.ExitCode}}", "replicator")...)
	c.run(append(podman, "rm", "--force", "app", "replicator")...)
	c.tool("restore", "app.db", "--out", "killed.db")
	c.says("7,8,9\n", "sqlite3", "data/killed.db", "select group_concat(x) from t")
}

// composed is the command of a service in examples/container/compose.yaml, with what is another
// here: the configuration's place, and the address.
func composed(t *testing.T, name string) []string {
	t.Helper()
	var file struct {
		Services map[string]struct {
			Command []string `yaml:"command"`
		} `yaml:"services"`
	}
	text := strings.NewReplacer("/etc/verneuil.json", "/data/verneuil.json", "0.0.0.0:9380",
		"127.0.0.1:0").Replace(read(t, "../../examples/container/compose.yaml"))
	err := yaml.Unmarshal([]byte(text), &file)
	command := file.Services[name].Command
	if err != nil || command == nil {
		t.Fatalf("no command of %s, %v", name, err)
	}
	return command
}
