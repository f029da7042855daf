#!/usr/bin/env bash
# rate.sh INTERFACE SECONDS: the Mbit/s that arrive at an interface, over two
# seconds, from a second after they begin to (within SECONDS, else 0). In one shell
# without other programs: on a busy machine each would be late for what it looks at.
set -u

# received sets BYTES, and AT in microseconds. A look that a busy machine held up
# has no good time, and is thrown away.
received() {
	local line start try
	for try in {1..20}; do
		start=${EPOCHREALTIME/./}
		while read -r line; do
			[[ $line != "$INTERFACE":* ]] || read -r BYTES _ <<<"${line#*:}"
		done </proc/self/net/dev
		AT=${EPOCHREALTIME/./}
		((AT - start > 5000 && try < 20)) || return 0
	done
}

INTERFACE=$1 BYTES=0
received
idle=$BYTES until=$((AT + $2 * 1000000))
until ((BYTES - idle > 100000 || AT > until)); do
	sleep 0.05
	received
done
sleep 1
received
before=$BYTES since=$AT
sleep 2
received
printf '%d.%02d\n' $(((BYTES - before) * 8 / (AT - since))) $(((BYTES - before) * 800 / (AT - since) % 100))
