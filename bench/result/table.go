package result

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Markdown writes the rows of the results as tables: one of the rows each by itself,
// one of those by peer.
func Markdown(w io.Writer, files []*File) error {
	var single, byPeer []Row
	for _, f := range files {
		if f.ByPeer {
			byPeer = append(byPeer, f.Rows...)
		} else {
			single = append(single, f.Rows...)
		}
	}
	var b strings.Builder
	if len(single) > 0 {
		b.WriteString("| what | candor | beside | ratio (95 %) | goal | n |\n| --- | --- | --- | --- | --- | --- |\n")
		for _, r := range single {
			fmt.Fprintf(&b, "| %s | %s %s | %s %s (%s) | %s | %s | %d |\n",
				r.What, number(r.Candor), r.Unit, number(r.Peer), r.Unit, r.PeerName, ratio(r), r.Goal, r.Samples)
		}
	}
	if len(single) > 0 && len(byPeer) > 0 {
		b.WriteString("\n")
	}
	if len(byPeer) > 0 {
		writeByPeer(&b, byPeer)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Peers are the rows' peers, in the order in which they come first.
func Peers(rows []Row) (peers []string) {
	for _, r := range rows {
		if !slices.Contains(peers, r.PeerName) {
			peers = append(peers, r.PeerName)
		}
	}
	return peers
}

// writeByPeer makes one line of the rows with the same What, which follow each other.
func writeByPeer(b *strings.Builder, rows []Row) {
	peers := Peers(rows)
	fmt.Fprintf(b, "| what | candor | %s | n |\n|%s\n", strings.Join(peers, " | "), strings.Repeat(" --- |", len(peers)+3))
	for len(rows) > 0 {
		first, cells := rows[0], make([]string, len(peers))
		for len(rows) > 0 && rows[0].What == first.What {
			r := rows[0]
			cell := fmt.Sprintf("%s %s: %s", number(r.Peer), r.Unit, ratio(r))
			if r.Goal != "" {
				cell += fmt.Sprintf(", %s %s", r.Goal, r.Verdict())
			}
			cells[slices.Index(peers, r.PeerName)] = cell
			rows = rows[1:]
		}
		fmt.Fprintf(b, "| %s | %s %s | %s | %d |\n", first.What, number(first.Candor), first.Unit, strings.Join(cells, " | "), first.Samples)
	}
}

func ratio(r Row) string {
	return fmt.Sprintf("**%.3f** (%.3f to %.3f)", r.Ratio.Median, r.Ratio.Low, r.Ratio.High)
}

// number prints four digits at most.
func number(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4f", v)
}
