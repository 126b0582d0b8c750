// The table.

package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"
)

// A unit writes a value as people read it.
type unit func(float64) string

func seconds(x float64) string {
	switch {
	case x < 999.5e-6:
		return digits(x*1e6) + " µs"
	case x < 999.5e-3:
		return digits(x*1e3) + " ms"
	default:
		return digits(x) + " s"
	}
}

func size(x float64) string {
	switch {
	case x < 1<<10:
		return digits(x) + " B"
	case x < 1<<20:
		return digits(x/(1<<10)) + " KiB"
	default:
		return digits(x/(1<<20)) + " MiB"
	}
}

func count(x float64) string    { return fmt.Sprintf("%.0f", x) }
func fraction(x float64) string { return fmt.Sprintf("%.2f", x) }

// digits writes three of them that count.
func digits(x float64) string {
	switch abs := math.Abs(x); {
	case abs < 9.995:
		return fmt.Sprintf("%.2f", x)
	case abs < 99.95:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.0f", x)
	}
}

const unknownFileSystem = "file system unknown"

// header says on what was measured.
func header(dir string) string {
	return fmt.Sprintf("%s, %s/%s, %d cores, %s, %s",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), fileSystem(dir), time.Now().UTC().Format(time.DateOnly))
}

// printTable writes the table, as Markdown that is readable as it is.
func printTable(w io.Writer, header string, table []section) error {
	lines := [][]string{{header, "median", "p90", "p99", "flocklock ÷ it", "limit", "result"}}
	for _, s := range table {
		for i := range s.rows {
			lines = append(lines, s.line(&s.rows[i]))
		}
	}
	_, err := io.WriteString(w, aligned(lines))
	return err
}

// line is a row's line of the table.
func (s *section) line(r *row) []string {
	cells := []string{lineName(s.measurement, r.name), "", "", "", "", "", ""}
	if r.err != nil {
		cells[6] = "failed: " + strings.ReplaceAll(r.err.Error(), "\n", "; ")
		var reason unmeasured
		if errors.As(r.err, &reason) {
			cells[6] = "not measured: " + string(reason)
		}
		return cells
	}
	cells[1] = r.unit(r.quantile(median))
	if len(r.values) > 1 {
		cells[2], cells[3] = r.unit(r.quantile(p90)), r.unit(r.quantile(p99))
	}
	var verdict string
	cells[4], cells[5], verdict = s.judge(r)
	cells[6] = join("; ", verdict, r.note)
	return cells
}

// judge compares a row with its limits.
func (s *section) judge(r *row) (ratios, bounds, verdict string) {
	for _, l := range s.limits {
		if l.row != r.name {
			continue
		}
		prefix := ""
		if l.quantile == p99 {
			prefix = "p99 "
		}
		value, bound := l.value(s.rows), r.unit(l.bound)
		if l.of != "" {
			bound = digits(l.bound)
		}
		bounds = join(", ", bounds, fmt.Sprintf("%s%s %s", prefix, l.sense, bound))
		if math.IsNaN(value) {
			verdict = "not compared"
			continue
		}
		if l.of != "" {
			ratios = join(", ", ratios, prefix+digits(value))
		}
		switch {
		case !l.sense.allows(value, l.bound):
			verdict = "missed"
		case verdict == "":
			verdict = "ok"
		}
	}
	return ratios, bounds, verdict
}

func join(separator string, parts ...string) string {
	var full []string
	for _, part := range parts {
		if part != "" {
			full = append(full, part)
		}
	}
	return strings.Join(full, separator)
}

// aligned lays out cells as a Markdown table.
func aligned(lines [][]string) string {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, line := range lines {
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i > 0 && i < 4 { // numbers
				fmt.Fprintf(&b, "| %s%s ", pad, cell)
			} else {
				fmt.Fprintf(&b, "| %s%s ", cell, pad)
			}
		}
		b.WriteString("|\n")
		if n == 0 {
			b.WriteString(rule(widths))
		}
	}
	return b.String()
}

// rule is the line below the names of the columns.
func rule(widths []int) string {
	var b strings.Builder
	for i, width := range widths {
		if i > 0 && i < 4 {
			fmt.Fprintf(&b, "|%s:", strings.Repeat("-", width+1))
		} else {
			fmt.Fprintf(&b, "|%s", strings.Repeat("-", width+2))
		}
	}
	return b.String() + "|\n"
}
