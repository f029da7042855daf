#!/usr/bin/env bats
# Single quotes are for shells and jq inside; a @test is no subshell to bats:
# shellcheck disable=SC2016,SC2030,SC2031,SC2034
# The engines' fixture, and candor under each: containerd with a real image on
# overlayfs, Docker and Podman as Debian ships them.

load ../fixtures/lab
load ../fixtures/engines

setup_file() {
	[[ -z $(engines_missing) ]] || return 0
	lab_setup_file && load_lab || return
	engines_image "$LAB_DIR/image.tar" && lab_ctr image import --snapshotter overlayfs "$LAB_DIR/image.tar" >/dev/null &&
		docker_up "$LAB_DIR/image.tar" && lab_podman load --quiet --input "$LAB_DIR/image.tar" >/dev/null || return
	# The engines are a part of the node that the tests leave as it was; the
	# cgroups above those of their containers stay.
	LAB_SNAPSHOT_WITHOUT=cgroup
	save_lab
	node_snapshot | sort >"$LAB_DIR/before"
}

teardown_file() {
	load_lab || return 0
	docker_down
	podman_down
	lab_teardown_file
}

setup() {
	local why
	why=$(engines_missing)
	[[ -z $why ]] || skip "$(head -n 1 <<<"$why")"
	lab_setup
	# A failed test ends all processes of the lab.
	docker_runs || docker_up "$LAB_DIR/image.tar"
	set_policy "s/^allow *=.*/allow = [\"containerd:$LAB_NS\", \"containerd:moby\", \"docker\", \"podman\"]/"
}

teardown() {
	[[ -n ${LAB_ID:-} ]] || return 0
	docker_rm_all
	podman_rm_all
	lab_teardown
}

##### containerd, with an image

image_run() {
	local id=$1
	shift
	lab_ctr run --fifo-dir "$LAB_DIR/fifo" --snapshotter overlayfs --runtime io.containerd.candor.v1 "${@:1:$#-1}" "$ENGINES_IMAGE" "$id" /bin/sh -c "${*: -1}"
}

@test "containerd: a container of an image on overlayfs, with NIC and view" {
	image_run c1 --detach --null-io --memory-limit 67108864 --annotation "$(nic "ip=$LAB_SUBNET.5/24")" 'sleep 600'
	has "root" "$(lab_exec c1 /bin/sh -c 'grep " / " /proc/self/mountinfo')" overlay
	has "meminfo" "$(cat_in c1 /proc/meminfo | tr -s ' ')" "MemTotal: 65536 kB"
	lab_exec c1 /bin/ping -c 1 -W 3 "$LAB_PEER_IP"
	lab_rm c1
	want_all_back 2
}

##### Docker

docker_candor() { lab_docker run --runtime candor --network none "$@"; }

@test "Docker, the wrapper: NIC and view, also after a restart, and all back" {
	docker_candor --detach --name c1 --memory 64m --annotation "$(nic "ip=$LAB_SUBNET.5/24")" busybox sleep 600 >/dev/null
	has "inside" "$(lab_docker exec c1 sh -c 'ip -4 addr show net0; grep MemTotal: /proc/meminfo' | tr -s ' ')" \
		"$LAB_SUBNET.5/24" "MemTotal: 65536 kB"
	lab_peer ping -c 1 -W 3 "$LAB_SUBNET.5"
	equal "caller" docker "$(jq -r .caller "$(lab_records)")"
	lab_docker restart --time 0 c1 >/dev/null
	lab_peer ping -c 1 -W 3 "$LAB_SUBNET.5"
	lab_docker rm --force c1 >/dev/null
	want_all_back 2
}

@test "Docker, the wrapper: what the policy forbids is told in Docker's own error" {
	set_policy 's/^allow *=.*/allow = ["podman"]/'
	run docker_candor --rm --annotation "$(nic "ip=$LAB_SUBNET.5/24")" busybox echo it-runs
	((status != 0))
	has "error" "$output" "pool wire" docker "not allowed"
	[[ $output != *it-runs* ]]
	nic_is_back
	no_records
}

# Debian 13's is 1.7. The shim needs 2.0.
@test "Docker, the shim: a containerd that is too old says so, and nothing is left" {
	run lab_docker run --runtime io.containerd.candor.v1 --network none --rm --annotation "$(nic "ip=$LAB_SUBNET.5/24")" busybox echo it-runs
	((status != 0)) || fail "it runs: this Debian's containerd is not that old any more"
	has "error" "$output" "unsupported shim version"
	nic_is_back
	no_records
}

##### Podman

@test "Podman: NIC and view, and all back when the container is removed" {
	podman_run --detach --name c1 --memory 64m --annotation "$(nic "ip=$LAB_SUBNET.5/24")" busybox sleep 600 >/dev/null
	has "inside" "$(lab_podman exec c1 sh -c 'ip -4 addr show net0; grep MemTotal: /proc/meminfo' | tr -s ' ')" \
		"$LAB_SUBNET.5/24" "MemTotal: 65536 kB"
	lab_peer ping -c 1 -W 3 "$LAB_SUBNET.5"
	equal "caller" podman "$(jq -r .caller "$(lab_records)")"
	lab_podman rm --force --time 0 c1 >/dev/null
	want_all_back 3
}

@test "Podman: a container that ends by itself gives the NIC back" {
	run podman_run --rm --annotation "$(nic "ip=$LAB_SUBNET.5/24")" busybox ip -o -4 addr show net0
	((status == 0)) || fail "$output"
	has "output" "$output" "$LAB_SUBNET.5/24"
	want_all_back 5
}
