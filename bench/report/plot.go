package main

import (
	"errors"
	"flag"
	"fmt"
	"image/color"
	"slices"
	"strconv"

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
	files, err := readAll(fs.Args())
	if err != nil {
		return err
	}
	lines := linesOf(files)
	if len(lines) == 0 {
		return errors.New("there is nothing to draw")
	}
	slices.Reverse(lines) // the axis goes up
	p, err := ratios(lines)
	if err != nil {
		return err
	}
	return p.Save(26*vg.Centimeter, vg.Length(len(lines)+3)*0.6*vg.Centimeter, *out)
}

// line is one line of the plot: a row, or what several peers have in one.
type line struct {
	name   string
	byPeer bool
	rows   []result.Row
}

// linesOf are the lines in the order of the table, which has rows by peer last.
func linesOf(files []*result.File) (lines []line) {
	var byPeer []line
	for _, f := range files {
		for _, r := range f.Rows {
			switch last := len(byPeer) - 1; {
			case !f.ByPeer:
				lines = append(lines, line{name: fmt.Sprintf("%s (%s)", r.What, r.PeerName), rows: []result.Row{r}})
			case last >= 0 && byPeer[last].name == r.What:
				byPeer[last].rows = append(byPeer[last].rows, r)
			default:
				byPeer = append(byPeer, line{name: r.What, byPeer: true, rows: []result.Row{r}})
			}
		}
	}
	return append(lines, byPeer...)
}

// series are the points of one colour: those of a peer, or of all rows by themselves.
type series struct {
	peer            string
	measured, goals plotter.XYs
	intervals       plotter.XErrors
}

func ratios(lines []line) (*plot.Plot, error) {
	var all []*series
	var names []string
	for i, l := range lines {
		names = append(names, l.name)
		for _, r := range l.rows {
			peer := ""
			if l.byPeer {
				peer = r.PeerName
			}
			at := slices.IndexFunc(all, func(s *series) bool { return s.peer == peer })
			if at < 0 {
				at, all = len(all), append(all, &series{peer: peer})
			}
			s := all[at]
			s.measured = append(s.measured, plotter.XY{X: r.Ratio.Median, Y: float64(i)})
			s.intervals = append(s.intervals, struct{ Low, High float64 }{r.Ratio.Median - r.Ratio.Low, r.Ratio.High - r.Ratio.Median})
			if goal, ok := r.Bound(); ok {
				s.goals = append(s.goals, plotter.XY{X: goal, Y: float64(i)})
			}
		}
	}
	same, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(lines)) - 0.5}})
	if err != nil {
		return nil, err
	}
	same.Color = color.Gray{Y: 0xa0}

	p := plot.New()
	p.X.Label.Text = "candor to peer: median of pairs, 95 % interval; x is the goal"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, doublings{}
	p.NominalY(names...)
	p.Add(same)
	for i, s := range all {
		if err := s.add(p, colours[i%len(colours)]); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(all, func(s *series) bool { return s.peer != "" }) {
		p.Legend.Top = true
		p.Y.Max += float64(len(all)) // the legend's place
	}
	p.X.Min, p.X.Max = min(p.X.Min, 0.9), max(p.X.Max, 1.1)
	return p, nil
}

// colours are told apart also by those who do not tell red from green.
var colours = []color.Color{color.RGBA{B: 0xa0, A: 0xff}, color.RGBA{R: 0xe6, G: 0x9f, A: 0xff}, color.Gray{Y: 0x60}}

// add draws the points with their intervals and goals, and a peer's name in the legend.
func (s *series) add(p *plot.Plot, c color.Color) error {
	dots, err := plotter.NewScatter(s.measured)
	if err != nil {
		return err
	}
	dots.GlyphStyle = draw.GlyphStyle{Color: c, Radius: vg.Points(3), Shape: draw.CircleGlyph{}}
	bars, err := plotter.NewXErrorBars(struct {
		plotter.XYs
		plotter.XErrors
	}{s.measured, s.intervals})
	if err != nil {
		return err
	}
	bars.Color = c
	goals, err := plotter.NewScatter(s.goals)
	if err != nil {
		return err
	}
	goals.GlyphStyle = draw.GlyphStyle{Color: c, Radius: vg.Points(4), Shape: draw.CrossGlyph{}}
	if s.peer == "" {
		goals.Color = color.RGBA{R: 0xc0, A: 0xff}
	} else {
		p.Legend.Add(s.peer, dots)
	}
	p.Add(goals, bars, dots)
	return nil
}

// doublings are the ticks of a ratio: half and double are as far from 1.
type doublings struct{}

// Ticks returns those between the bounds; of a wide range each second power of 2.
func (doublings) Ticks(low, high float64) (ticks []plot.Tick) {
	values := []float64{1. / 16, 1. / 8, 1. / 4, 1. / 2, 0.75, 1, 1.5, 2, 4, 8, 16}
	if high/low > 256 {
		values = nil
		for v := 1. / 4096; v <= 4096; v *= 4 {
			values = append(values, v)
		}
	}
	for _, v := range values {
		if low <= v && v <= high {
			ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', 3, 64)})
		}
	}
	return ticks
}
