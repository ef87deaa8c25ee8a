package main

import (
	"fmt"
	"path/filepath"
	"sync"
)

// What S3 Standard costs in us-east-1, in USD: https://aws.amazon.com/s3/pricing.
const (
	pricePut      = 0.005 / 1000 // PUT, COPY, POST, LIST; DELETE is free
	priceGet      = 0.0004 / 1000
	priceGBMonth  = 0.023
	monthHours    = 730
	secondsOfHour = 3600
)

// partBill counts the calls that typical loads make, all at the same time, with default
// intervals of one second.
func partBill(b *bench) error {
	dir, s, end, err := b.scene("bill")
	if err != nil {
		return err
	}
	defer end()
	template := filepath.Join(dir, "template.db")
	if err := b.fill(template, 4); err != nil {
		return err
	}
	loads := []float64{0.1, 1, 10, 100}
	if b.bill*loads[0] < 1 {
		loads = loads[1:] // there would be no commit
	}
	systems := []string{"verneuil", "litestream"}
	results, errs := make([]rateResult, len(loads)*len(systems)),
		make([]error, len(loads)*len(systems))
	var group sync.WaitGroup
	for i := range results {
		group.Go(func() {
			results[i], errs[i] = b.commitAt(s, dir, template,
				contestant{systems[i%2], 1000, 0, s.name, false}, loads[i/2], b.bill)
		})
	}
	group.Wait()
	b.report.text("Each system makes one-row commits for %.0f s on a 4 MiB WAL database, "+
		"at its default interval of 1 s, all at the same time against one MinIO. Calls are "+
		"counted after the first\n"+
		"copy. A month is %d hours of this without pause. Prices (S3 Standard, us-east-1): "+
		"$%.3f per 1,000 PUT, POST, LIST, $%.4f per 1,000 GET, $%.3f per GB and month;\n"+
		"uploads are free. The bill is for requests. The storage is what a month uploads, "+
		"if it is kept for the whole of the next month. Litestream compacts every 30 s, 5 min "+
		"and 1 h; so short a run sees only the first.",
		b.bill, monthHours, pricePut*1000, priceGet*1000, priceGBMonth)
	return b.billTable(loads, results, errs)
}

func (b *bench) billTable(loads []float64, results []rateResult, errs []error) error {
	var rows []row
	var failed error
	p := &plot{name: "bill", part: "bill", title: "USD a month for S3 requests, " +
		"one database written without pause", axis: "USD a month",
		series: []series{{"verneuil", make([]spread, len(loads))},
			{"litestream", make([]spread, len(loads))}}}
	for i, r := range results {
		if errs[i] != nil {
			b.report.text("%s at %v/s was left out: %v.", r.system, r.rate, errs[i])
			if r.system == "verneuil" {
				failed = errs[i]
			}
			continue
		}
		perHour := secondsOfHour / b.bill
		usd := r.usd(b.bill)
		var ratio any = "-"
		if other := results[i^1]; errs[i^1] == nil {
			ratio = over(usd, other.usd(b.bill))
		}
		gbMonth := float64(r.used.up) / 1e9 * perHour * monthHours
		n := float64(r.commits)
		rows = append(rows, row{r.system, r.rate, r.used.String(), float64(r.used.all()) / n,
			float64(r.used.up) / n, float64(r.used.all()) * perHour,
			float64(r.used.up) / 1e6 * perHour, usd, ratio, gbMonth * priceGBMonth})
		p.series[i%2].values[i/2] = single(usd)
	}
	for _, load := range loads {
		p.labels = append(p.labels, fmt.Sprintf("%v commits/s", load))
	}
	b.report.plot(p)
	b.report.table([]string{"system", "commits/s", "calls", "calls per commit", "bytes per commit",
		"calls an hour", "MB an hour", "requests, USD a month", "x the other",
		"storage of what a month uploads, USD a month"}, rows)
	return failed
}

// usd is what a month of these requests costs.
func (r rateResult) usd(seconds float64) float64 {
	return (float64(r.used.put+r.used.list)*pricePut +
		float64(r.used.get)*priceGet) * secondsOfHour / seconds * monthHours
}
