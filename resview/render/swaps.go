package render

import (
	"strconv"

	"candor.dev/candor/cgroup"
)

// appendSwaps renders /proc/swaps: one line for all swap that the container may
// use, whatever devices the host has it on. The form is that of
// mm/swapfile.c:swap_show.
func appendSwaps(dst []byte, m *cgroup.Memory, host *hostMemory) []byte {
	dst = append(dst, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"...)
	total, free := swapTotal(m, host)
	if total == 0 {
		return dst
	}
	// The name is padded to 40 columns.
	dst = append(dst, "none                                    virtual \t"...)
	dst = appendTabbed(dst, total>>10)
	dst = appendTabbed(dst, (total-free)>>10)
	return append(dst, "0\n"...)
}

// appendTabbed appends v and one tab, or two where the number is short.
func appendTabbed(dst []byte, v uint64) []byte {
	dst = strconv.AppendUint(dst, v, 10)
	dst = append(dst, '\t')
	if v < 10_000_000 {
		dst = append(dst, '\t')
	}
	return dst
}
