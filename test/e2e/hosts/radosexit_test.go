package hosts_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"verneuil/test/cephtest"
	"verneuil/test/e2e/harness"
)

// exitScript opens a database in RADOS, and exits by exit(), with 3: with "busy" while a thread
// commits, with "stopped" when no OSD answers, and with "forked" after children have.
const exitScript = `
import os, signal, sqlite3, sys, threading
mode, osd = sys.argv[2], int(sys.argv[3])
c = sqlite3.connect(":memory:")
c.enable_load_extension(True)
c.load_extension(sys.argv[1])
db = sqlite3.connect("file:///store/app.db?vfs=verneuil_remote", uri=True, isolation_level=None,
                     check_same_thread=False)
db.execute("create table if not exists t(a)")
begun = threading.Event()
def insert():
    while True:
        begun.set()
        try:
            db.execute("insert into t values(1)")
        except sqlite3.Error:
            return
if mode == "stopped":
    db.execute("insert into t values(0)") # the lease is ours, and is to be given back
    os.kill(osd, signal.SIGSTOP)
    sys.exit(3)
if mode == "forked":
    for _ in range(3):
        child = os.fork()
        if child == 0:
            sys.exit(7)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 7:
            os._exit(1)
else:
    threading.Thread(target=insert, daemon=True).start()
    begun.wait()
sys.exit(3)
`

// TestExitWithRADOS: librados's threads run on while exit() destroys what they use, unless they are
// ended before. A host exits with its own status, whatever is under way.
func TestExitWithRADOS(t *testing.T) {
	library := harness.Library(t)
	c := cephtest.Start(t, cephtest.Options{})
	config, err := json.Marshal(map[string]any{
		"stores": map[string]any{"store": map[string]any{"rados": map[string]any{
			"pool": cephtest.Pool, "namespace": c.Namespace()}}},
		"tempdir": t.TempDir(), "remote_deadline_ms": 20000})
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"busy", "forked", "stopped"} {
		t.Run(mode, func(t *testing.T) {
			osd := c.OSDs[0]
			cmd := exec.CommandContext(t.Context(), harness.Python, "-c", exitScript, library,
				mode, strconv.Itoa(osd.PID()))
			cmd.Env = append(append(os.Environ(), c.Env("")...),
				"VERNEUIL_CONFIG="+string(config))
			out, err := cmd.CombinedOutput()
			osd.Signal(t, syscall.SIGCONT)
			if code := cmd.ProcessState.ExitCode(); code != 3 {
				t.Errorf("exit status %d, %v\n%s", code, err, out)
			}
		})
	}
}
