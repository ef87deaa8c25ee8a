package miniotest

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// StartVersity is [Start] of a versitygw, which is in VERNEUIL_VERSITYGW or in .tools/bin of the
// module, where `make bench` puts it; without one the test is skipped. Its region is region.
func StartVersity(tb testing.TB, region string) (endpoint string) {
	tb.Helper()
	program := findVersity(tb)
	tb.Setenv("AWS_ACCESS_KEY_ID", AccessKey)
	tb.Setenv("AWS_SECRET_ACCESS_KEY", SecretKey)
	tb.Setenv("AWS_SESSION_TOKEN", "")
	tb.Setenv("AWS_PROFILE", "")
	tb.Setenv("AWS_CONFIG_FILE", os.DevNull)
	tb.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	tb.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	address := fmt.Sprintf("127.0.0.1:%d", freePort(tb))
	s := &Server{Endpoint: "http://" + address, exited: make(chan struct{})}
	s.command = exec.Command(program, "--port", address, "--access", AccessKey,
		"--secret", SecretKey, "--region", region, "posix", tb.TempDir())
	s.command.Stdout, s.command.Stderr = &s.output, &s.output
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := startWithThread(s.command); err != nil {
		tb.Fatalf("start versitygw: %v", err)
	}
	go func() {
		s.command.Wait() // ends with an error when we kill it
		close(s.exited)
	}()
	tb.Cleanup(s.Stop)
	if err := s.waitAnswers(); err != nil {
		s.Stop()
		tb.Fatalf("start versitygw: %v\n%s", err, &s.output)
	}
	return s.Endpoint
}

// waitAnswers waits until the server answers at all.
func (s *Server) waitAnswers() error {
	client := http.Client{Timeout: 5 * time.Second}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	var last error
	for range readyTries {
		response, err := client.Get(s.Endpoint)
		if err == nil {
			response.Body.Close()
			return nil
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

func findVersity(tb testing.TB) string {
	tb.Helper()
	if program := os.Getenv("VERNEUIL_VERSITYGW"); program != "" {
		return program
	}
	dir, err := os.Getwd()
	for ; err == nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		program := filepath.Join(dir, ".tools", "bin", "versitygw")
		if _, err := exec.LookPath(program); err == nil {
			return program
		}
	}
	tb.Skip("no versitygw: `make bench` installs one in .tools/bin, or name one in " +
		"VERNEUIL_VERSITYGW")
	return ""
}
