# shellcheck shell=bash
# Packages of Debian, by apt but without touching the machine's own: lists,
# cache and sources lie in the work directory; the machine's proxies are used.

GUEST_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# debian_mirror SECURITY: the URI of the archive that this machine uses already
# (it may have no way to any other): "no" for the main one, "yes" for security's.
debian_mirror() {
	local uri
	# shellcheck disable=SC2016  # apt's own variables
	uri=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(ORIGIN) $(LABEL)' 'Created-By: Packages' 2>/dev/null |
		awk -v security="$1" '$2 == "main" && $3 == "Debian" && ($4 ~ /Security/ ? "yes" : "no") == security { print $1; exit }')
	if [[ -z $uri ]]; then
		printf 'guest: apt has no Debian archive (security: %s) in its sources, or no lists of it yet\n' "$1" >&2
		return 1
	fi
	printf '%s\n' "${uri%/}"
}

# debian_up makes apt's own corner of the work directory.
debian_up() {
	local main security
	main=$(debian_mirror no) && security=$(debian_mirror yes) || return
	mkdir -p apt/{lists,archives}/partial apt/empty debs
	{
		printf 'deb [signed-by=%s] %s %s main\n' "$GUEST_KEYRING" "$main" "$GUEST_KERNEL_SUITE"
		printf 'deb [signed-by=%s] %s %s-security main\n' "$GUEST_KEYRING" "$security" "$GUEST_KERNEL_SUITE"
	} >apt/sources.list
	debian_apt apt-get update >/dev/null
}

# debian_apt PROGRAM ARGUMENTS...
debian_apt() {
	local program=$1 top=${TOP:-$PWD}
	shift
	"$program" -q -o Acquire::Retries=3 -o APT::Sandbox::User=root \
		-o Dir::Etc::sourcelist="$top/apt/sources.list" -o Dir::Etc::sourceparts="$top/apt/empty" \
		-o Dir::State::lists="$top/apt/lists" -o Dir::Cache="$top/apt" -o Dir::Cache::archives="$top/apt/archives" "$@"
}

# debian_get PACKAGE... puts the packages alone, without what they need, in debs/.
debian_get() {
	local top=$PWD
	(cd debs && TOP=$top debian_apt apt-get download "$@" >/dev/null)
}

# debian_unpack PACKAGE DIRECTORY
debian_unpack() {
	local file=("debs/$1"_*.deb)
	dpkg-deb -x "${file[0]}" "$2"
}

# debian_root DIRECTORY VARIANT PACKAGE,PACKAGE: a Debian in a directory.
debian_root() {
	local mirror
	mirror=$(debian_mirror no) || return
	local without=() path
	for path in doc man locale info lintian; do without+=("--dpkgopt=path-exclude=/usr/share/$path/*"); done
	# mmdebstrap's helper, mmtarfilter, is looked for in PATH.
	PATH=$PWD/mmdebstrap/usr/bin:$PATH mmdebstrap --quiet --mode=root --variant="$2" "${without[@]}" --aptopt='Acquire::Retries "3"' \
		--include="$3" "$GUEST_SUITE" "$1" "$mirror"
}
