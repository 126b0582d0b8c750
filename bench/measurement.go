// What a measurement is, and when its result is good.

package main

import (
	"math"
	"slices"
)

// A measurement yields some rows of the table.
type measurement struct {
	name    string
	rows    []string // their names; all are measured in one go, side by side
	limits  []limit
	measure func(s *setting, rows []string) []row
}

// A setting is where and how much to measure.
type setting struct {
	dir string // temporary, on the file system that is measured
	amounts
}

// A row is what was measured of one contender.
type row struct {
	name   string
	unit   unit
	values []float64
	note   string
	err    error // why there are no values; unmeasured where that is no failure
}

// unmeasured says why something cannot be measured on this system.
type unmeasured string

func (u unmeasured) Error() string { return string(u) }

// quantile is the value that the q-th part of all do not exceed.
func (r *row) quantile(q float64) float64 {
	if len(r.values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(r.values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

const (
	median = 0.5
	p90    = 0.9
	p99    = 0.99
)

// A limit is what flocklock should keep to.
type limit struct {
	row      string // the contender to compare with, on whose line it is printed
	of       string // the row that is divided by it; "": the row itself is limited
	quantile float64
	sense    sense
	bound    float64
}

type sense string

const (
	below   sense = "<"
	atMost  sense = "≤"
	atLeast sense = "≥"
)

// allows says whether a value keeps to a bound.
func (s sense) allows(value, bound float64) bool {
	switch s {
	case below:
		return value < bound
	case atMost:
		return value <= bound
	default:
		return value >= bound
	}
}

// value is what the limit limits; NaN where it was not measured.
func (l limit) value(rows []row) float64 {
	value := quantileOf(rows, l.row, l.quantile)
	if l.of != "" {
		value = quantileOf(rows, l.of, l.quantile) / value
	}
	return value
}

func quantileOf(rows []row, name string, q float64) float64 {
	for i := range rows {
		if rows[i].name == name && rows[i].err == nil {
			return rows[i].quantile(q)
		}
	}
	return math.NaN()
}

// failed makes rows that say why nothing was measured.
func failed(names []string, err error) []row {
	var rows []row
	for _, name := range names {
		rows = append(rows, row{name: name, err: err})
	}
	return rows
}

// named picks from a list what has one of these names.
func named[T interface{ String() string }](all []T, names []string) []T {
	return slices.DeleteFunc(slices.Clone(all), func(t T) bool { return !slices.Contains(names, t.String()) })
}

// namesOf lists the names.
func namesOf[T interface{ String() string }](all []T) []string {
	var names []string
	for _, t := range all {
		names = append(names, t.String())
	}
	return names
}
