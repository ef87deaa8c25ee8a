package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"verneuil/vfs"
)

func runCommand(g *global) *cobra.Command {
	var (
		listen string
		linger time.Duration
	)
	command := &cobra.Command{
		Use:   "run [SPOOLDIR]",
		Short: "Replicate every database that has a spool here, in a process of its own",
		Long: `Replicate every database that has a spool in SPOOLDIR, or in the replication_spooling_dir
of the configuration, to the targets of the configuration, until a signal ends the process: for
applications that record with libverneuil_recorder.so, which has no replicator, and for those
whose processes come and go. Spools are served as soon as there are any. What another process
replicates is left to it until it ends; when this process ends, others go on.

It needs the rights of the user whose databases they are: spools of other users are reported, and
not used. At SIGTERM or Ctrl-C it sends what is left, for at most --linger, and ends.

With --listen it serves metrics for Prometheus at http://ADDRESS/metrics, and says there that it
lives at /healthz. Those who may connect learn the paths of databases, and errors.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) error {
			doing := append([]string{"run"}, args...)
			return fail(runSpools(command.Context(), g, strings.Join(args, ""), listen, linger),
				doing...)
		},
	}
	flags := command.Flags()
	flags.StringVar(&listen, "listen", "", "serve metrics at this address, such as 127.0.0.1:9380")
	flags.DurationVar(&linger, "linger", 10*time.Second, "how long to send what is left at the end")
	return command
}

func runSpools(
	ctx context.Context, g *global, dir, listen string, linger time.Duration,
) error {
	config, err := g.parse()
	if err != nil {
		return err
	}
	if dir == "" {
		dir = config.ReplicationSpoolingDir
	}
	if dir == "" {
		return errors.New("no spooling directory: give SPOOLDIR, or a configuration with " +
			"replication_spooling_dir")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if listen != "" {
		server, err := serveMetrics(listen, dir, config, cancel, g.log)
		if err != nil {
			return err
		}
		defer server.Close()
	}
	err = vfs.Keep(ctx, config, g.log, dir, linger)
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// serveMetrics serves the metrics of the spools in dir. What ends the server is given to failed.
func serveMetrics(
	listen, dir string, config *vfs.Config, failed context.CancelCauseFunc, log *slog.Logger,
) (*http.Server, error) {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	r := registry(metrics{dir: dir, config: config})
	r.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), MaxRequestsInFlight: 4,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed(err)
		}
	}()
	_, err = fmt.Printf("metrics at http://%s/metrics\n", listener.Addr())
	return server, err
}
