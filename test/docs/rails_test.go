package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// rails is an application whose only page puts a row, sends it, and answers with its worker's
// number.
const rails = `require "rails"
require "active_record/railtie"
require "action_controller/railtie"
class Shop < Rails::Application
  config.root = __dir__
  config.eager_load = true
  config.secret_key_base = "x" * 30
  config.hosts.clear
  config.log_level = :error
  routes.append { root to: "orders#create" }
end
class Order < ActiveRecord::Base; end
class OrdersController < ActionController::Base
  def create
    Order.create!(worker: Process.pid)
    safe = Order.connection.select_value("select verneuil_flush()")
    render plain: Process.pid.to_s, status: safe == 1 ? 200 : 500
  end
end
Shop.initialize!
run Shop
`

// TestRails: Rails under Puma, as docs/guide-servers.md has it: what workers commit is sent while
// they work, and if one of them is killed, too.
func TestRails(t *testing.T) {
	const requires = "%w[rails active_record/railtie action_controller/railtie sqlite3 puma]." +
		"each { |library| require library }"
	if exec.Command("ruby", "-e", requires).Run() != nil {
		t.Skip("no Rails or no Puma (make deps says why)")
	}
	const name = "docs/guide-servers.md"
	puma := block(t, name, "Puma in cluster mode", "ruby")
	unloaded := strings.Replace(puma, "preload_app!\n", "", 1)
	if unloaded == puma {
		t.Fatalf("the page's Puma is %q", puma)
	}
	for what, puma := range map[string]string{"preload": puma, "no preload": unloaded} {
		t.Run(what, func(t *testing.T) {
			e := guide(t, block(t, "docs/from-litestream.md", "the two know nothing", ""))
			if err := os.MkdirAll(filepath.Join(e.dir, "config/initializers"), 0o755); err != nil {
				t.Fatal(err)
			}
			e.write("config/initializers/verneuil.rb", block(t, name, "## Rails", "ruby"))
			e.write("config/puma.rb", puma)
			e.write("config/database.yml", "production:\n  adapter: sqlite3\n  database: "+e.dir+
				"/app.db\n  timeout: 60000\n")
			e.write("config.ru", rails)
			e.run("sqlite3", "app.db", "create table orders(id integer primary key, worker)")
			e.underPuma()
			e.run(e.build+"/verneuilctl", "restore", "app.db", "--out", "restored.db")
			out := e.run("sqlite3", "restored.db", "select count(*) from orders")
			if out != "12\n" {
				t.Errorf("restored: %q", out)
			}
		})
	}
	e := guide(t, block(t, "docs/from-litestream.md", "the two know nothing", ""))
	e.write("app.rb", strings.Replace(rails, "run Shop", "", 1))
	if err := os.MkdirAll(filepath.Join(e.dir, "config/initializers"), 0o755); err != nil {
		t.Fatal(err)
	}
	e.write("config/initializers/verneuil.rb", block(t, name, "## Rails", "ruby"))
	e.write("config/database.yml", "production:\n  adapter: sqlite3\n  database: other.db\n")
	out, err := e.ruby("ruby", "app.rb").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is not replicated") {
		t.Errorf("of a database that is not replicated it says %v: %s", err, out)
	}
}

// ruby is a command that finds the extension as the Debian package would have it found.
func (e *example) ruby(argv ...string) *exec.Cmd {
	command := exec.CommandContext(e.Context(), argv[0], argv[1:]...)
	command.Dir = e.dir
	command.Env = append(os.Environ(), "VERNEUIL_CONFIG=@"+e.config, "RAILS_ENV=production",
		"LD_LIBRARY_PATH="+e.build, "VERNEUIL_LOG=error")
	return command
}

// underPuma visits the application twelve times. In the middle of that a worker is killed.
func (e *example) underPuma() {
	e.Helper()
	server := e.ruby("puma", "-q", "-C", "config/puma.rb", "-e", "production", "-b",
		"unix://"+e.dir+"/socket", "config.ru")
	var said strings.Builder
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		e.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	worker, err := strconv.Atoi(visits(e.T, e.dir+"/socket", ended, 6))
	if err != nil || worker == server.Process.Pid {
		e.Fatalf("%d answers, not a worker: %v", worker, err)
	}
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		e.Fatal(err)
	}
	visits(e.T, e.dir+"/socket", ended, 6)
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		e.Fatal(err)
	}
	<-ended
	e.Log(said.String())
}
