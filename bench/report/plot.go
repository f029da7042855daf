package main

import (
	"errors"
	"flag"
	"fmt"
	"image/color"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"candor.dev/candor/bench/result"
)

// drawing draws the ratios of all rows with their intervals, and what each is to be:
// one line for a row, the first on top, so that table and plot read alike.
func drawing(args []string) error {
	fs := flag.NewFlagSet("plot", flag.ExitOnError)
	out := fs.String("o", "", "the file for the plot; its ending says the format (svg, png, pdf)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var rows []result.Row
	for _, path := range fs.Args() {
		f, err := result.Read(path)
		if err != nil {
			return err
		}
		rows = append(rows, f.Rows...)
	}
	if len(rows) == 0 {
		return errors.New("there is nothing to draw")
	}
	slices.Reverse(rows) // the axis goes up
	p, err := ratios(rows)
	if err != nil {
		return err
	}
	return p.Save(26*vg.Centimeter, vg.Length(len(rows)+3)*0.6*vg.Centimeter, *out)
}

func ratios(rows []result.Row) (*plot.Plot, error) {
	var measured, goals plotter.XYs
	var intervals plotter.XErrors
	var names []string
	for i, r := range rows {
		at := plotter.XY{X: r.Ratio.Median, Y: float64(i)}
		measured = append(measured, at)
		intervals = append(intervals, struct{ Low, High float64 }{r.Ratio.Median - r.Ratio.Low, r.Ratio.High - r.Ratio.Median})
		names = append(names, fmt.Sprintf("%s (%s)", r.What, r.PeerName))
		if goal, ok := bound(r.Goal); ok {
			goals = append(goals, plotter.XY{X: goal, Y: at.Y})
		}
	}
	dots, err := plotter.NewScatter(measured)
	if err != nil {
		return nil, err
	}
	dots.GlyphStyle = draw.GlyphStyle{Color: color.RGBA{B: 0xa0, A: 0xff}, Radius: vg.Points(3), Shape: draw.CircleGlyph{}}
	bars, err := plotter.NewXErrorBars(struct {
		plotter.XYs
		plotter.XErrors
	}{measured, intervals})
	if err != nil {
		return nil, err
	}
	bounds, err := plotter.NewScatter(goals)
	if err != nil {
		return nil, err
	}
	bounds.GlyphStyle = draw.GlyphStyle{Color: color.RGBA{R: 0xc0, A: 0xff}, Radius: vg.Points(4), Shape: draw.CrossGlyph{}}
	same, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(rows)) - 0.5}})
	if err != nil {
		return nil, err
	}
	same.Color = color.Gray{Y: 0xa0}

	p := plot.New()
	p.X.Label.Text = "candor to peer: median of pairs, 95 % interval; x is the goal"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, doublings{}
	p.NominalY(names...)
	p.Add(same, bounds, bars, dots)
	p.X.Min, p.X.Max = min(p.X.Min, 0.9), max(p.X.Max, 1.1)
	return p, nil
}

// bound is the number of a goal such as "<= 1.03".
func bound(goal string) (float64, bool) {
	_, number, _ := strings.Cut(goal, "= ")
	v, err := strconv.ParseFloat(number, 64)
	return v, err == nil && v > 0
}

// doublings are the ticks of a ratio: half and double are as far from 1.
type doublings struct{}

// Ticks returns those between the bounds.
func (doublings) Ticks(low, high float64) (ticks []plot.Tick) {
	for _, v := range []float64{1. / 16, 1. / 8, 1. / 4, 1. / 2, 0.75, 1, 1.5, 2, 4, 8, 16} {
		if low <= v && v <= high {
			ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', 3, 64)})
		}
	}
	return ticks
}
