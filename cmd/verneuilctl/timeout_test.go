package main

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// silence listens, takes connections, and never answers. It counts them.
func silence(t *testing.T) (endpoint string, connections *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int64)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var open []net.Conn
		for {
			c, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				break
			} else if err == nil {
				connections.Add(1)
				open = append(open, c)
			}
		}
		for _, c := range open {
			c.Close()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-ended
	})
	return "http://" + listener.Addr().String(), connections
}

// TestTimeout: each command gives a store up that does not answer, by --timeout and by the
// configuration's key, after one request has had its time; and says after two seconds what it waits
// for.
func TestTimeout(t *testing.T) {
	s := emptySite(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	endpoint, connections := silence(t)
	s.target = map[string]any{"s3": map[string]any{"region": "r", "endpoint": endpoint,
		"bucket": "b"}}
	s.configure(nil)
	db := s.database("d.db", 10000)
	at := strings.TrimPrefix(endpoint, "http://")
	for _, args := range []string{
		"sync " + db, "restore -s " + db + " -o " + s.path("out.db"), "verify", "versions -s " + db,
		"ls", "manifest --json " + db,
		"flush " + s.path("spool"), "restore -m " + endpoint + "/m -o " + s.path("out.db"),
		"restore -m s3://b.r." + at + "/m -o " + s.path("out.db"),
	} {
		connections.Store(0)
		r := ctl(t, append([]string{"-c", s.config(), "--timeout", "600ms"},
			strings.Fields(args)...)...)
		if r.code != 1 || !strings.Contains(r.stderr, "no answer in 600ms") {
			t.Errorf("%s: exit code %d: %s%s", args, r.code, r.stdout, r.stderr)
		}
		if n := connections.Load(); n > 3 {
			t.Errorf("%s: asked %d times", args, n)
		}
	}
	s.configure(map[string]any{"store_timeout_ms": 3000})
	r := ctl(t, "-c", s.config(), "versions", "-s", db)
	if word := "store does not answer"; r.code != 1 ||
		!strings.Contains(r.stderr, "no answer in 3s") || strings.Count(r.stderr, word) != 1 ||
		!strings.Contains(r.stderr, "given_up_after=3s") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	refuse(t, 2, []string{"--timeout"}, "-c", s.config(), "--timeout", "soon", "verify")
	refuse(t, 2, []string{"--timeout -1s: want more than 0"}, "-c", s.config(), "--timeout", "-1s",
		"verify")
}
