package policy

import (
	"fmt"
	"strconv"
	"time"

	"candor.dev/candor/request"
)

// maxWait bounds how long a container's start may be held up for a NIC: the
// kubelet gives a sandbox two minutes (--runtime-request-timeout).
const maxWait = time.Minute

// WaitFor returns how long the pools of a request wait, at most, for NICs that are
// not on the host yet. A hook needs so much more time.
func (p *Policy) WaitFor(r request.Request) (longest time.Duration) {
	for _, n := range r.NICs {
		longest = max(longest, p.Pools[n.Pool].Wait)
	}
	return longest
}

func checkWait(text string) (time.Duration, error) {
	wait, err := time.ParseDuration(text)
	if err != nil {
		if _, err := strconv.Atoi(text); err == nil {
			return 0, fmt.Errorf("%q has no unit; did you mean %q?", text, text+"s")
		}
		return 0, fmt.Errorf(`%q is not a duration such as "10s"`, text)
	}
	if wait < 0 || wait > maxWait {
		return 0, fmt.Errorf("%q must be 0s to 60s", text)
	}
	return wait, nil
}
