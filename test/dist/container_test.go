package dist

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestContainer: the recipe makes an image, of a Debian that has nothing but its base, by apt-get
// with all that the package depends on; in it a database is written, flushed and restored.
func TestContainer(t *testing.T) {
	if os.Getenv("VERNEUIL_DIST_LONG") == "" {
		t.Skip("VERNEUIL_DIST_LONG is not set: make dist sets it")
	}
	deb := made(t, "*.deb")
	needs(t, "buildah", "debootstrap")
	if os.Getuid() != 0 {
		t.Skip("debootstrap wants root")
	}
	p := newPlace(t, true)
	p.env = append(p.env, "BUILDAH_ISOLATION=chroot", "STORAGE_DRIVER=vfs",
		"CONTAINERS_STORAGE_CONF="+p.path("storage.conf"))
	p.write("storage.conf", "[storage]\ndriver = \"vfs\"\nrunroot = \""+p.path("run")+
		"\"\ngraphroot = \""+p.path("graph")+"\"\n")
	p.run("debootstrap", "--variant=minbase", "bookworm", p.path("debian"))
	base := strings.TrimSpace(p.run("buildah", "from", "scratch"))
	p.run("buildah", "add", "-q", base, p.path("debian"), "/")
	p.run("buildah", "commit", "-q", base, "localhost/debian")
	p.run("cp", deb, filepath.Join(filepath.Dir(deb), "Containerfile"), p.dir)
	p.run("buildah", "bud", "-q", "--network", "host", "--build-arg", "BASE=localhost/debian",
		"-t", "verneuil", p.dir)
	image := strings.TrimSpace(p.run("buildah", "from", "--pull-never", "localhost/verneuil"))
	p.says("1\n7\n", "buildah", "run", image, "--", "sh", "-euc", `cd /srv
export VERNEUIL_CONFIG='{"make_default": true, "replication_spooling_dir": "/var/lib/verneuil",
  "replication_targets": [{"dir": {"path": "/srv/store"}}]}'
sqlite3 :memory: '.load libverneuil_vfs' '.open app.db' 'create table t(x)' \
  'insert into t values(7)' 'select verneuil_flush()'
rm app.db
verneuilctl restore app.db --out copy.db
sqlite3 copy.db 'select x from t'`)
	if out, err := exec.Command("rm", "-rf", p.path("debian")).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
