package main

import (
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// metrics are what Prometheus is told of the databases that have a spool in a directory. It is a
// collector: each scrape reads the spools.
type metrics struct {
	place
	proofs func([]standing) // says in them what is known of proofs
}

// gauge is one metric of a database, or of one of its targets.
type gauge struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(s *standing) float64
}

func about(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("verneuil_"+name, help, append([]string{"database"}, labels...), nil)
}

// seconds is when something was, as Prometheus has it; 0: never.
func seconds(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.UnixMilli()) / 1000
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// ofDatabase are the metrics of a database; docs/operations.md lists them.
var ofDatabase = []gauge{
	{about("up_to_date", "Whether every target has everything."), prometheus.GaugeValue,
		func(s *standing) float64 { return truth(s.UpToDate) }},
	{about("replicator", "The process that replicates, 0 none."), prometheus.GaugeValue,
		func(s *standing) float64 { return float64(s.Replicator) }},
	{about("failing", "Whether status shows an error."), prometheus.GaugeValue,
		func(s *standing) float64 { return truth(s.trouble() != "") }},
	{about("lag_seconds", "At most the age of what a target lacks."), prometheus.GaugeValue,
		func(s *standing) float64 { return s.LagSeconds }},
	{about("lag_bytes", "About how much a target lacks."), prometheus.GaugeValue,
		func(s *standing) float64 { return float64(s.LagBytes) }},
	{about("commits_total", "Transactions recorded since the spool was made."),
		prometheus.CounterValue, func(s *standing) float64 { return float64(s.Commits) }},
	{about("dropped_total", "Transactions for which the log had no room."),
		prometheus.CounterValue, func(s *standing) float64 { return float64(s.Dropped) }},
	{about("last_commit_timestamp_seconds", "The last transaction; 0: none."),
		prometheus.GaugeValue, func(s *standing) float64 { return seconds(s.Committed) }},
	{about("spool_bytes", "The log."), prometheus.GaugeValue,
		func(s *standing) float64 { return float64(s.SpoolBytes) }},
	{about("request_dollars_per_month", "What the requests cost at this rate; 0: not known."),
		prometheus.GaugeValue, func(s *standing) float64 { return s.Dollars }},
}

var (
	targetRequests = about("target_requests_total",
		"Requests since the database's replicator began.", "target")
	targetBacklog = about("target_backlog_chunks", "Chunks that are to be sent.", "target")
	targetFailing = about("target_failing", "Whether the last attempt failed.", "target")
	targetDamaged = about("target_damaged_objects",
		"What was found damaged (sync --read), and is not put again yet.", "target")
	targetStopped = about("target_stopped", "Whether another writer uses our name.", "target")
	targetVersion = about("target_last_version_timestamp_seconds",
		"When the target took its last version; 0: never.", "target")
	provenAt = about("last_proof_timestamp_seconds",
		"When verify --drill last succeeded, of the target where that is longest ago; 0: never.")
	proofAskedAt = about("last_proof_asked_timestamp_seconds",
		"When the targets were last asked when verify --drill succeeded.")
	targetPatrol = about("target_patrolled_timestamp_seconds",
		"When the last patrol ended; 0: none has.", "target")
)

// Describe sends no description, as there may be no database: the collector is unchecked.
func (m metrics) Describe(chan<- *prometheus.Desc) {}

// Collect reads the spools.
func (m metrics) Collect(out chan<- prometheus.Metric) {
	all, err := m.statuses()
	if err != nil {
		out <- prometheus.NewInvalidMetric(ofDatabase[0].desc, err)
		return
	}
	m.proofs(all)
	for i := range all {
		s := &all[i]
		for _, g := range ofDatabase {
			out <- prometheus.MustNewConstMetric(g.desc, g.kind, g.of(s), s.Path)
		}
		if !s.ProofAsked.IsZero() {
			out <- prometheus.MustNewConstMetric(provenAt, prometheus.GaugeValue,
				seconds(s.Proven), s.Path)
			out <- prometheus.MustNewConstMetric(proofAskedAt, prometheus.GaugeValue,
				seconds(s.ProofAsked), s.Path)
		}
		for _, t := range s.Targets {
			gauge := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64) {
				out <- prometheus.MustNewConstMetric(desc, kind, value, s.Path, t.Name)
			}
			gauge(targetRequests, prometheus.CounterValue, float64(t.Calls))
			gauge(targetBacklog, prometheus.GaugeValue, float64(t.Backlog))
			gauge(targetFailing, prometheus.GaugeValue, truth(t.Error != ""))
			gauge(targetDamaged, prometheus.GaugeValue, float64(t.Damaged))
			gauge(targetStopped, prometheus.GaugeValue, truth(t.Stopped))
			gauge(targetVersion, prometheus.GaugeValue, seconds(t.Manifest))
			gauge(targetPatrol, prometheus.GaugeValue, seconds(t.Patrolled))
		}
	}
}

// registry returns one that knows m.
func registry(m metrics) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(m)
	return r
}

// writeMetrics writes m in Prometheus' text format.
func writeMetrics(w io.Writer, m metrics) error {
	families, err := registry(m).Gather()
	if err != nil {
		return err
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return err
		}
	}
	return nil
}
