#!/bin/sh
# Runs inside the container, under busybox, and prints what a program there sees,
# as name=value lines.
nics=''
for dir in /sys/class/net/*; do
	name=${dir##*/}
	case $name in lo) continue ;; esac
	nics="$nics $name"
	echo "mac=$(cat "$dir/address")"
done
echo "nics=${nics# }"
echo "address=$(ip -4 -o addr show 2>/dev/null | awk '$2 != "lo" { sub("/.*", "", $4); print $4 }' | xargs)"
awk '{ sub(":", "", $1); v[$1] = $2 } END { print "memtotal=" v["MemTotal"]; print "memavailable=" v["MemAvailable"]; print "swap=" v["SwapTotal"] }' /proc/meminfo
echo "swaps=$(awk 'NR > 1 { s += $3 } END { print s + 0 }' /proc/swaps)"
echo "cpuinfo=$(grep -c '^processor' /proc/cpuinfo)"
echo "stat=$(grep -c '^cpu[0-9]' /proc/stat)"
echo "online=$(awk '{ n = split($1, part, ","); for (i = 1; i <= n; i++) { m = split(part[i], r, "-"); c += m == 2 ? r[2] - r[1] + 1 : 1 } print c }' /sys/devices/system/cpu/online)"
echo "uptime=$(cut -d' ' -f1 /proc/uptime)"
echo "load=$(cut -d' ' -f1-3 /proc/loadavg)"
echo "tasks=$(awk '{ sub(".*/", "", $4); print $4 }' /proc/loadavg)"
