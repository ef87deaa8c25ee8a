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

// runFlags are the flags of run.
type runFlags struct {
	listen        string
	linger        time.Duration
	proofInterval time.Duration
}

func runCommand(g *global) *cobra.Command {
	var o runFlags
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
lives at /healthz. Those who may connect learn the paths of databases, and errors. When verify
--drill last succeeded it asks the targets when it first sees a database, and an hour after that at
the earliest, when the database was written to; of idle ones, too, every --proof-interval.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) error {
			doing := append([]string{"run"}, args...)
			return fail(runSpools(command.Context(), g, strings.Join(args, ""), o), doing...)
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.listen, "listen", "",
		"serve metrics at this address, such as 127.0.0.1:9380")
	flags.DurationVar(&o.linger, "linger", 10*time.Second,
		"how long to send what is left at the end")
	flags.DurationVar(&o.proofInterval, "proof-interval", 0,
		"ask for the proofs of idle databases so often (0: when they are first seen)")
	return command
}

func runSpools(ctx context.Context, g *global, dir string, o runFlags) error {
	if err := g.checkFile(dir); err != nil {
		return err
	}
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
	if o.listen != "" {
		store, err := config.OpenStore(ctx, g.log)
		if err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		defer store.Close()
		known := &proofs{ctx: ctx, store: store, every: o.proofInterval, log: g.log,
			now: time.Now, known: make(map[string]knownProof)}
		here := place{config: config, dir: dir}
		server, err := serveMetrics(o.listen, metrics{here, known.fill}, cancel, g.log)
		if err != nil {
			return err
		}
		defer server.Close()
	}
	err = vfs.Keep(ctx, config, g.log, dir, o.linger)
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// serveMetrics serves m. What ends the server is given to failed.
func serveMetrics(
	listen string, m metrics, failed context.CancelCauseFunc, log *slog.Logger,
) (*http.Server, error) {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	r := registry(m)
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
