// Package miniotest starts a real MinIO server for a test. It finds the program
// in VERNEUIL_MINIO, in .tools/bin of the module, or in PATH. Without one a test
// is skipped; it fails instead in CI, and where VERNEUIL_REQUIRE_MINIO is set.
package miniotest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"verneuil/test/tied"
)

// The credentials of every server that Start starts.
const (
	AccessKey = "verneuil-test-user"
	SecretKey = "verneuil-test-secret"
)

const (
	readyTries = 600
	readyPoll  = 50 * time.Millisecond
	startTries = 3 // another process may take the port that we found free
)

// Start starts a server with empty storage on a free loopback port, and returns
// its endpoint, "http://127.0.0.1:PORT". It sets AWS_ACCESS_KEY_ID and
// AWS_SECRET_ACCESS_KEY for the test, hides the user's AWS profile from it, and
// ends the server when the test ends.
func Start(tb testing.TB) (endpoint string) {
	tb.Helper()
	return Run(tb).Endpoint
}

// Run is [Start] for a test that does more to the server.
func Run(tb testing.TB) *Server {
	tb.Helper()
	program := find(tb)
	setCredentials(tb)
	var err error
	for range startTries {
		var s *Server
		if s, err = StartAt(program, tb.TempDir(), freePort(tb)); err == nil {
			tb.Cleanup(func() { s.Stop() })
			return s
		}
	}
	tb.Fatalf("start MinIO: %v", err)
	return nil
}

// setCredentials sets those of the servers for the test, and hides the user's AWS profile from it.
func setCredentials(tb testing.TB) {
	tb.Helper()
	tb.Setenv("AWS_ACCESS_KEY_ID", AccessKey)
	tb.Setenv("AWS_SECRET_ACCESS_KEY", SecretKey)
	tb.Setenv("AWS_SESSION_TOKEN", "")
	tb.Setenv("AWS_PROFILE", "")
	tb.Setenv("AWS_CONFIG_FILE", os.DevNull)
	tb.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	tb.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// Server is a running MinIO, for tests that stop and restart it.
type Server struct {
	Endpoint string
	command  *exec.Cmd
	output   bytes.Buffer // read it after exited
	exited   chan struct{}
}

// StartAt starts program, as Find returns it, on storage and port of 127.0.0.1,
// and returns when it serves.
func StartAt(program, storage string, port int) (*Server, error) {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	command := exec.Command(program, "server", "--quiet", "--address", address,
		"--console-address", "127.0.0.1:0", storage)
	command.Env = append(os.Environ(), "MINIO_ROOT_USER="+AccessKey,
		"MINIO_ROOT_PASSWORD="+SecretKey,
		"MINIO_UPDATE=off", "MINIO_CI_CD=1") // CI_CD: it refuses a root disk otherwise
	return serve(command, address, "/minio/health/ready", func(status int) bool {
		return status == http.StatusOK
	})
}

// serve starts a server, which serves at address, and returns when a GET of path has a status that
// is ready.
func serve(
	command *exec.Cmd, address, path string, ready func(status int) bool,
) (*Server, error) {
	s := &Server{
		Endpoint: "http://" + address, command: command, exited: make(chan struct{}),
	}
	command.Stdout, command.Stderr = &s.output, &s.output
	if err := tied.Start(command); err != nil {
		return nil, err
	}
	go func() {
		command.Wait() // ends with an error when we kill it
		close(s.exited)
	}()
	if err := s.wait(path, ready); err != nil {
		s.Stop()
		return nil, fmt.Errorf("%w\n%s", err, &s.output)
	}
	return s, nil
}

func (s *Server) wait(path string, ready func(status int) bool) error {
	client := http.Client{Timeout: 5 * time.Second}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	var last error
	for range readyTries {
		response, err := client.Get(s.Endpoint + path)
		if err == nil {
			response.Body.Close()
			if ready(response.StatusCode) {
				return nil
			}
			err = errors.New(response.Status)
		}
		last = err
		select {
		case <-s.exited:
			return errors.New("the server ended")
		case <-tick.C:
		}
	}
	return fmt.Errorf("the server is not ready: %w", last)
}

// Stop kills the server, which loses nothing that it has acknowledged, and
// returns when it has ended. Its storage stays.
func (s *Server) Stop() {
	s.command.Process.Kill()
	<-s.exited
}

// Signal sends the server a signal, such as SIGSTOP.
func (s *Server) Signal(signal os.Signal) error { return s.command.Process.Signal(signal) }

// Find returns the program's path, or an error that says how to get one.
func Find() (string, error) {
	if program := os.Getenv("VERNEUIL_MINIO"); program != "" {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("VERNEUIL_MINIO: %w", err)
		}
		return program, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if program, err := exec.LookPath(filepath.Join(dir, ".tools", "bin", "minio")); err == nil {
			return program, nil
		}
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil || dir == filepath.Dir(dir) {
			break
		}
	}
	if program, err := exec.LookPath("minio"); err == nil {
		return program, nil
	}
	return "", errors.New("no MinIO server: `make test` installs one in .tools/bin " +
		"(GOBIN=$PWD/.tools/bin go install github.com/minio/minio@latest), " +
		"or name one in VERNEUIL_MINIO")
}

func find(tb testing.TB) string {
	tb.Helper()
	program, err := Find()
	if err == nil {
		return program
	}
	required := os.Getenv("VERNEUIL_MINIO") != "" || os.Getenv("VERNEUIL_REQUIRE_MINIO") != "" ||
		os.Getenv("CI") == "true"
	if required {
		tb.Fatal(err)
	}
	tb.Skip(err)
	return ""
}

func freePort(tb testing.TB) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
