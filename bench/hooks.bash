# shellcheck shell=bash
# How long a hook's program takes to start, beside a Go program that does
# nothing: what it links and initializes, each container pays for.

bench_hooks() {
	local hook
	for hook in candor-prestart-net candor-prestart-lxcfs candor-poststop; do
		"$BENCH_BIN/pairs" -part hooks -what "start of $hook" -peer "hello world" -goal "<= 1.5" \
			-pairs $((BENCH_PAIRS * 3)) -warmup 10 -o "$(bench_out "1-$hook")" \
			-- "$LAB_BIN/$hook" --version --- "$BENCH_BIN/hello" || return
	done
}
