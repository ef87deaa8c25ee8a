package main

import (
	"fmt"
	"slices"
)

// spread summarizes several turns of a measurement.
type spread struct {
	Min, Median, Max float64
	N                int
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	return spread{sorted[0], sorted[len(sorted)/2], sorted[len(sorted)-1], len(sorted)}
}

// ratios divides turn by turn: what disturbs a turn disturbs both sides of it.
func ratios(ours, base []float64) spread {
	var r []float64
	for i := range min(len(ours), len(base)) {
		r = append(r, over(ours[i], base[i]))
	}
	return spreadOf(r)
}

func over(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// String is the median and [least..greatest].
func (s spread) String() string {
	if s.N == 0 {
		return "-"
	}
	if s.Min == s.Max {
		return short(s.Median)
	}
	return fmt.Sprintf("%s [%s..%s]", short(s.Median), short(s.Min), short(s.Max))
}

// short writes a number with as many digits as are meaningful.
func short(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 0.1:
		return fmt.Sprintf("%.3f", v)
	case v < 20:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// percentile of values, which it sorts; q from 0 to 1.
func percentile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(len(values)-1, int(float64(len(values))*q))]
}

func sum(values []float64) (total float64) {
	for _, v := range values {
		total += v
	}
	return total
}
