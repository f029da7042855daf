#!/usr/bin/env bats
# What make install lays down is what the parts look for. The labs of the other
# suites have everything in one folder and would never notice.

setup_file() {
	export TREE=$BATS_FILE_TMPDIR/tree REPO=$BATS_TEST_DIRNAME/../..
	make -s -C "$REPO" install DESTDIR="$TREE" SETUP=no >"$BATS_FILE_TMPDIR/log" 2>&1 || {
		cat "$BATS_FILE_TMPDIR/log" >&2
		return 1
	}
}

@test "shim, wrapper and command are on the path" {
	local program
	for program in containerd-shim-candor-v1 candor-runc candor; do
		[[ -x $TREE/usr/local/bin/$program ]]
	done
}

# Shim and wrapper start candord from where the hooks are.
@test "hooks and daemon are in the one folder that is looked into" {
	local program
	for program in candor-prestart-net candor-prestart-lxcfs candor-poststop candord; do
		run "$TREE/usr/libexec/candor/$program" --version
		[[ $status -eq 0 && $output == candor* ]]
	done
}

@test "the unit starts and reloads the daemon that is installed" {
	local unit=$TREE/usr/local/lib/systemd/system/candord.service program what
	for what in ExecStart ExecReload; do
		program=$(sed -nE "s/^$what=([^ ]+).*/\1/p" "$unit")
		[[ -n $program && -x $TREE$program ]]
	done
	run grep -r '@[A-Z]*@' "$TREE/usr/local/lib/systemd/system"
	[[ $status -eq 1 ]]
}

@test "the policy that is installed grants nothing, and is root's" {
	local config=$TREE/etc/candor/config.toml
	[[ $(stat -c '%u %a' "$config") =~ ^0\ 6[04]0|^0\ 644 ]]
	run "$TREE/usr/local/bin/candor" --config "$config" --state-dir "$BATS_FILE_TMPDIR/state" spec /nonexistent
	[[ $output != *"config.toml"* ]] # it is the bundle that is missing
	run grep -E '^\[pools' "$config"
	[[ $status -eq 1 ]]
}

@test "installing again keeps a changed policy; uninstalling keeps it too, and nothing else" {
	echo '# mine' >>"$TREE/etc/candor/config.toml"
	make -s -C "$REPO" install DESTDIR="$TREE" SETUP=no
	grep -q '# mine' "$TREE/etc/candor/config.toml"
	make -s -C "$REPO" uninstall DESTDIR="$TREE"
	[[ $(find "$TREE" ! -type d | sed "s|^$TREE||") == /etc/candor/config.toml ]]
}
