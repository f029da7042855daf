# shellcheck shell=bash
# Tables: rows are collected, then printed with the columns' widths.
#
#   table "What it sees" "" "runc.v2" "candor" "the kernel says"
#   row   "MemTotal" "24684084 kB" "262144 kB" "262144 kB"          # for reading
#   check "$right" "MemTotal" ...                                   # judged: 0 is right
#   table_end

FAILURES=0 CHECKS=0
TABLE_ROWS=()

# table TITLE COLUMN...
table() {
	TABLE_TITLE=$1
	shift
	TABLE_ROWS=("$(table_line "$@" '')")
}

row() { TABLE_ROWS+=("$(table_line "$@" '')"); }

# check STATUS CELL...: a row that says whether candor's value is right.
check() {
	local status=$1 mark=ok
	shift
	CHECKS=$((CHECKS + 1))
	if ((status)); then
		mark=FAIL
		FAILURES=$((FAILURES + 1))
	fi
	TABLE_ROWS+=("$(table_line "$@" "$mark")")
}

# right COMMAND...: prints 0 or 1, for check.
right() { if "$@"; then echo 0; else echo 1; fi; }

# Unit separator: cells hold blanks, commas, tabs never.
table_line() {
	local IFS=$'\x1f'
	printf '%s' "$*"
}

table_end() {
	printf '\n%s\n\n' "$TABLE_TITLE"
	printf '%s\n' "${TABLE_ROWS[@]}" | awk -F $'\x1f' '
		{ for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } if (NF > columns) columns = NF }
		END {
			for (r = 1; r <= NR; r++) {
				line = " "
				for (i = 1; i <= columns; i++) line = line " " sprintf("%-" width[i] "s ", cell[r, i])
				sub(/ +$/, "", line); print line
				if (r == 1) { rule = ""; for (i = 1; i < columns; i++) { d = ""; for (k = 0; k < width[i]; k++) d = d "-"; rule = rule "  " d }; print "" rule }
			}
		}'
}

# plain NUMBER [DIGITS]: with that many digits after the point (1).
plain() { awk -v n="${1:-0}" -v d="${2:-1}" 'BEGIN { printf "%.*f", d, n }'; }
