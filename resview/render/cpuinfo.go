package render

import (
	"bytes"
	"errors"
	"slices"

	"candor.dev/candor/cgroup"
)

// hostCPUInfo is the host's /proc/cpuinfo, cut up.
type hostCPUInfo struct {
	text []byte
	// stanzas are the parts of text about one CPU, by id.
	stanzas map[int]span
	// common are the parts about no CPU in particular (ppc64: the machine).
	common []span
}

type span struct{ from, to int }

// parseCPUInfo cuts up a cpuinfo file of stanzas parted by empty lines, each
// with a line "processor : ID": x86, arm, riscv, ppc64 and others, not s390x.
func parseCPUInfo(text []byte) (*hostCPUInfo, error) {
	info := &hostCPUInfo{text: slices.Clone(text), stanzas: map[int]span{}}
	for from := 0; from < len(info.text); {
		to := len(info.text)
		if i := bytes.Index(info.text[from:], []byte("\n\n")); i >= 0 {
			to = from + i + 2
		}
		stanza := info.text[from:to]
		if id, ok := processorOf(stanza); ok {
			info.stanzas[id] = span{from, to}
		} else if len(bytes.TrimSpace(stanza)) > 0 {
			info.common = append(info.common, span{from, to})
		}
		from = to
	}
	if len(info.stanzas) == 0 {
		return nil, errors.New("no processor line of a known form")
	}
	return info, nil
}

// processorOf finds the id in a stanza.
func processorOf(stanza []byte) (id int, ok bool) {
	for line := range bytes.Lines(stanza) {
		rest, found := bytes.CutPrefix(line, []byte("processor"))
		if !found {
			continue
		}
		rest, found = bytes.CutPrefix(bytes.TrimLeft(rest, " \t"), []byte(":"))
		if !found {
			continue
		}
		v, n := cgroup.LeadingNumber(bytes.TrimLeft(rest, " \t"))
		return int(min(v, 1<<30)), n > 0
	}
	return 0, false
}

// appendCPUInfo renders /proc/cpuinfo: the host's stanzas of the given CPUs,
// unchanged, so that ids, topology and speed are the real ones.
func appendCPUInfo(dst []byte, info *hostCPUInfo, ids []int) []byte {
	for _, id := range ids {
		if s, ok := info.stanzas[id]; ok {
			dst = append(dst, info.text[s.from:s.to]...)
		}
	}
	for _, s := range info.common {
		dst = append(dst, info.text[s.from:s.to]...)
	}
	return dst
}
