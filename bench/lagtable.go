package main

import (
	"fmt"
	"strconv"
)

func (b *bench) lagTable(all []rateResult) {
	stock := map[float64]rateResult{}
	trip := map[string]float64{} // by server
	for _, r := range all {
		if r.system == "stock" {
			stock[r.rate] = r
		}
		if r.put > 0 {
			trip[r.server] = r.put + r.get
			b.report.text("A raw PUT of 4 KB takes %.2f ms on %s, and a raw GET %.2f ms "+
				"(medians). They go the same ways; one of each is made between two commits, at "+
				"one commit a second. Together they are the round trip below.",
				r.put, r.server, r.get)
		}
	}
	quantiles := func(v []float64) string {
		if len(v) == 0 {
			return "-"
		}
		return fmt.Sprintf("%s, %s, %s", short(percentile(v, 0.5)), short(percentile(v, 0.99)),
			short(percentile(v, 1)))
	}
	trips := func(v []float64, roundTrip float64) any {
		if len(v) == 0 || roundTrip == 0 {
			return "-"
		}
		return over(percentile(v, 0.5), roundTrip)
	}
	var rows []row
	for _, r := range all {
		n := float64(r.commits)
		base, roundTrip := stock[r.rate], trip[r.server]
		rows = append(rows, row{r.name(), r.rate, r.commits, r.versions, quantiles(r.stored),
			quantiles(r.bound), quantiles(r.read),
			trips(r.stored, roundTrip), trips(r.read, roundTrip), float64(r.used.all()) / n,
			float64(r.used.up) / n, r.cpu, over(r.cpu, base.cpu), over(r.latency, base.latency)})
		if r.system == "verneuil" && r.interval == 1000 && r.put > 0 && len(r.read) > 0 {
			v := spreadOf(r.read)
			why := "the replica polls, with a round trip and a pause of 2 ms, and a commit is " +
				"written to the mirror and the spool before its PUT"
			if r.server == "minio" {
				why = "MinIO lets a GET that meets the PUT wait for up to 50 ms (see the table); " +
					why
			}
			b.report.aim(aim{What: "lag from a commit to a refreshed replica's read at 1 " +
				"commit/s, to PUT + GET, " + r.server, Aim: 2,
				Got: spread{v.Min / roundTrip, v.Median / roundTrip, v.Max / roundTrip, v.N},
				Why: why})
		}
	}
	b.lagAims(all)
	b.report.table([]string{"system, interval", "commits/s", "commits", "versions",
		"stored after ms: p50, p99, max", "first PUT after it", "read after ms",
		"stored p50 / round trip", "read p50 / round trip", "calls per commit",
		"bytes up per commit", "CPU us per commit, all threads", "x stock",
		"commit latency x stock"}, rows)
	b.lagPlot(all)
}

// lagAims compares when a commit was stored with Litestream, at the same rate and interval.
func (b *bench) lagAims(all []rateResult) {
	for _, ours := range all {
		for _, theirs := range all {
			if ours.system != "verneuil" || theirs.system != "litestream" || ours.replica ||
				ours.rate != theirs.rate || ours.interval != theirs.interval ||
				len(ours.stored) == 0 || len(theirs.stored) == 0 {
				continue
			}
			for _, q := range []float64{0.5, 0.99} {
				got := percentile(ours.stored, q) / percentile(theirs.stored, q)
				b.report.aim(aim{
					What: fmt.Sprintf("lag from a commit to stored at %v commits/s, %d ms, p%g, "+
						"to Litestream's lower bound", ours.rate, ours.interval, 100*q), Aim: 1,
					Got: spread{got, got, got, 1},
					Why: "the bound ends with the first PUT after the commit, which may be of " +
						"older ones; versions keep the interval as their distance, Litestream's " +
						"files come more often",
				})
			}
		}
	}
}

func (b *bench) lagPlot(all []rateResult) {
	p := &plot{name: "lag", part: "lag", title: "Milliseconds from a commit until it is stored " +
		"(median, line: to the 99th percentile)", axis: "commits per second", log: true}
	for _, rate := range b.rates {
		p.x, p.xLabels = append(p.x, float64(rate)), append(p.xLabels, strconv.Itoa(rate))
	}
	for _, r := range all {
		if len(r.stored) == 0 || r.server != "minio" {
			continue
		}
		name, i := r.name(), 0
		for i < len(p.series) && p.series[i].name != name {
			i++
		}
		if i == len(p.series) {
			p.series = append(p.series, series{name, make([]spread, len(b.rates))})
		}
		for k, rate := range b.rates {
			if float64(rate) == r.rate {
				m := percentile(r.stored, 0.5)
				p.series[i].values[k] = spread{max(m, 0.01), max(m, 0.01),
					max(percentile(r.stored, 0.99), 0.01), len(r.stored)}
			}
		}
	}
	b.report.plot(p)
}
