#!/bin/sh
# ask.sh ADDRESS PORT: asks the demo's web server who is asking, and prints its
# answer. With nc: the wget of Debian's busybox crashes.
printf 'GET /cgi-bin/who HTTP/1.0\r\n\r\n' | nc -w 10 "$1" "$2" | tail -n 1
