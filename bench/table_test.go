package main

import (
	"errors"
	"strings"
	"testing"
)

func numbers(from, to int) []float64 {
	var all []float64
	for n := to; n >= from; n-- {
		all = append(all, float64(n))
	}
	return all
}

func TestQuantile(t *testing.T) {
	hundred, one := row{values: numbers(1, 100)}, row{values: []float64{7}}
	for _, test := range []struct {
		row  row
		q    float64
		want float64
	}{{hundred, median, 50}, {hundred, p90, 90}, {hundred, p99, 99}, {one, median, 7}, {one, p99, 7}} {
		if got := test.row.quantile(test.q); got != test.want {
			t.Errorf("quantile %v of %d values = %v, want %v", test.q, len(test.row.values), got, test.want)
		}
	}
}

func TestJudge(t *testing.T) {
	limits := []limit{{"peer", "flocklock", median, atMost, 2}, {"peer", "flocklock", p99, below, 3}, {"flocklock", "", p99, below, 5}}
	ours := row{name: "flocklock", unit: count, values: []float64{4}}
	for _, test := range []struct {
		name       string
		ours, peer row
		line       string // the row that is judged
		want       string
	}{
		{"kept", ours, row{name: "peer", unit: count, values: []float64{2}}, "peer", "2.00, p99 2.00; ≤ 2.00, p99 < 3.00; ok"},
		{"one missed", ours, row{name: "peer", unit: count, values: []float64{1}}, "peer", "4.00, p99 4.00; ≤ 2.00, p99 < 3.00; missed"},
		{"its own", ours, row{}, "flocklock", "p99 < 5; ok"},
		{"ours failed", row{name: "flocklock", values: []float64{1}, err: errors.New("no")},
			row{name: "peer", unit: count, values: []float64{1}}, "peer", "≤ 2.00, p99 < 3.00; not compared"},
	} {
		s := section{measurement{limits: limits}, []row{test.ours, test.peer}}
		for _, r := range s.rows {
			if r.name != test.line {
				continue
			}
			ratios, bounds, verdict := s.judge(&r)
			if got := join("; ", ratios, bounds, verdict); got != test.want {
				t.Errorf("%s: %q, want %q", test.name, got, test.want)
			}
		}
	}
}

func TestUnmeasuredIsSaid(t *testing.T) {
	s := section{measurement{name: "m"}, []row{{name: "a", err: unmeasured("for a reason")}, {name: "b", err: errors.New("broken")}}}
	var out strings.Builder
	if err := printTable(&out, "header", []section{s}); err != nil {
		t.Fatal(err)
	}
	if a, b := lineOf(out.String(), "m: a"), lineOf(out.String(), "m: b"); !strings.Contains(a, "not measured: for a reason") || !strings.Contains(b, "failed: broken") {
		t.Errorf("%q, %q", a, b)
	}
	if err := failures([]section{s}); err == nil || strings.Contains(err.Error(), "reason") {
		t.Errorf("failures: %v", err)
	}
}
