# shellcheck shell=bash
# Where the built guest lies: a directory per recipe, named by its checksum, so
# that a changed recipe builds anew while other guests still run from the old one.

GUEST_CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/candor-guest

# cache_stamp prints the checksum of all that decides what is built.
cache_stamp() { cat "$GUEST_HERE"/recipe.bash "$GUEST_HERE"/build/*.bash | sha256sum | cut -c1-16; }

# cache_up sets GUEST_BUILT to the built guest and builds it where it is missing.
# The lock on the directory is held as long as the caller lives: cache_prune of
# another one leaves it alone then.
cache_up() {
	GUEST_BUILT=$GUEST_CACHE/$(cache_stamp)
	mkdir -p "$GUEST_CACHE"
	if [[ ! -e $GUEST_BUILT/complete ]]; then
		exec {GUEST_BUILD_LOCK}>"$GUEST_CACHE/lock"
		flock "$GUEST_BUILD_LOCK"
		# In a process of its own: here, behind ||, set -e would not hold.
		[[ -e $GUEST_BUILT/complete ]] || "$GUEST_HERE/build.sh" "$GUEST_BUILT" >&2 || return
		cache_prune
		exec {GUEST_BUILD_LOCK}>&-
	fi
	exec {GUEST_USE_LOCK}<"$GUEST_BUILT/complete"
	flock --shared "$GUEST_USE_LOCK"
}

# cache_prune removes the guests of other recipes that nobody uses.
cache_prune() {
	local dir
	for dir in "$GUEST_CACHE"/*/; do
		dir=${dir%/}
		[[ $dir != "$GUEST_BUILT" ]] || continue
		if [[ ! -e $dir/complete ]] || flock --exclusive --nonblock "$dir/complete" true; then
			rm -rf --one-file-system "$dir"
		fi
	done
}
