// The charts that the README shows.

package main

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	handOverChart = "handover.svg"
	costChart     = "cost.svg"
)

var (
	ownColor  = color.RGBA{R: 0x1f, G: 0x6f, B: 0xb4, A: 0xff}
	peerColor = color.RGBA{R: 0x9a, G: 0xa3, B: 0xad, A: 0xff}
	tailColor = color.RGBA{R: 0xd0, G: 0x5a, B: 0x1e, A: 0xff}
	gridColor = color.RGBA{R: 0xe3, G: 0xe6, B: 0xea, A: 0xff}
)

// drawCharts draws what was measured, into a directory that it makes.
func drawCharts(dir string, table []section) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		drawChart(filepath.Join(dir, handOverChart), "From a release to the waiting process's acquire", rowsOf(table, handOverByRelease().name)),
		drawChart(filepath.Join(dir, costChart), "One acquire and release of a free lock", rowsOf(table, acquireAndRelease().name)),
	)
}

// rowsOf returns the rows of a measurement that have values.
func rowsOf(table []section, name string) []row {
	for _, s := range table {
		if s.name == name {
			return slices.DeleteFunc(slices.Clone(s.rows), func(r row) bool { return len(r.values) == 0 })
		}
	}
	return nil
}

// drawChart draws a bar from the left to each row's median, and a dot at what
// 99 of 100 did not exceed.
func drawChart(path, title string, rows []row) error {
	if len(rows) == 0 {
		return fmt.Errorf("%s: nothing of it was measured", path)
	}
	slices.Reverse(rows) // the axis goes upwards
	p := newPlot(title, rows)
	for i, r := range rows {
		if err := addRow(p, float64(i), &r); err != nil {
			return err
		}
	}
	return write(path, p, vg.Length(len(rows)))
}

func newPlot(title string, rows []row) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil // the canvas has one, to its edges
	p.Title.Text = title
	p.Title.TextStyle.Font.Size = 14
	p.Title.Padding = 8
	p.X.Label.Text = "bar: median   dot: p99   (log scale)"
	p.X.Min, p.X.Max = bounds(rows)
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = decades{}
	p.X.Padding = 0
	p.Y.Min, p.Y.Max = -0.6, float64(len(rows))-0.4
	p.NominalY(namesOfRows(rows)...)
	p.Y.Padding = 0
	grid := plotter.NewGrid()
	grid.Horizontal.Color = nil
	grid.Vertical.Color = gridColor
	p.Add(grid)
	for _, style := range []*draw.TextStyle{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label} {
		style.Font.Variant = "Sans"
	}
	p.Y.Tick.Label.Font.Size = 12
	return p
}

func namesOfRows(rows []row) []string {
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	return names
}

// bounds are the powers of ten around the values, with room for the text.
func bounds(rows []row) (low, high float64) {
	low, high = math.Inf(1), 0
	for i := range rows {
		low, high = min(low, rows[i].quantile(median)), max(high, rows[i].quantile(p99))
	}
	low = math.Pow(10, math.Floor(math.Log10(max(low, 1e-9))))
	return low, max(low, high) * 8
}

// decades marks the powers of ten.
type decades struct{}

func (decades) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for exponent := math.Round(math.Log10(low)); exponent <= math.Log10(high); exponent++ {
		value := math.Pow(10, exponent)
		ticks = append(ticks, plot.Tick{Value: value, Label: decade(value)})
	}
	return ticks
}

// decade writes a power of ten.
func decade(x float64) string {
	switch {
	case x < 0.99e-6:
		return fmt.Sprintf("%.0f ns", x*1e9)
	case x < 0.99e-3:
		return fmt.Sprintf("%.0f µs", x*1e6)
	case x < 0.99:
		return fmt.Sprintf("%.0f ms", x*1e3)
	default:
		return fmt.Sprintf("%.0f s", x)
	}
}

// addRow adds a bar, a dot and the numbers, at a height.
func addRow(p *plot.Plot, y float64, r *row) error {
	middle, tail := max(r.quantile(median), p.X.Min), max(r.quantile(p99), p.X.Min)
	bar, err := plotter.NewLine(plotter.XYs{{X: p.X.Min, Y: y}, {X: middle, Y: y}})
	if err != nil {
		return err
	}
	bar.Width, bar.Color = 16, peerColor
	if r.name == "flocklock" {
		bar.Color = ownColor
	}
	dot, err := plotter.NewScatter(plotter.XYs{{X: tail, Y: y}})
	if err != nil {
		return err
	}
	dot.Shape, dot.Radius, dot.Color = draw.CircleGlyph{}, 4, tailColor
	text, err := plotter.NewLabels(plotter.XYLabels{
		XYs:    plotter.XYs{{X: tail, Y: y}},
		Labels: []string{r.unit(r.quantile(median)) + ", p99 " + r.unit(r.quantile(p99))},
	})
	if err != nil {
		return err
	}
	text.Offset = vg.Point{X: 9, Y: -4}
	text.TextStyle[0].Font.Variant, text.TextStyle[0].Font.Size = "Sans", 11
	p.Add(bar, dot, text)
	return nil
}

// write writes a chart of so many rows.
func write(path string, p *plot.Plot, rows vg.Length) error {
	const margin = 8
	canvas := vgsvg.New(640, 100+32*rows)
	c := draw.New(canvas)
	c.SetColor(color.White) // for readers with a dark background
	c.Fill(c.Rectangle.Path())
	p.Draw(draw.Crop(c, 2*margin, -margin, margin, -margin))
	var text bytes.Buffer
	if _, err := canvas.WriteTo(&text); err != nil {
		return err
	}
	// Few readers have the one font that the library names.
	const font = "font-family:Liberation Sans"
	return os.WriteFile(path, bytes.ReplaceAll(text.Bytes(), []byte(font), []byte(font+",Arial,Helvetica,sans-serif")), 0o644)
}
