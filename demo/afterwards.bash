# shellcheck shell=bash
# Fourth table: the host NIC before the containers had it, and after.

afterwards_remember() { NIC_BEFORE=$(lab_nic_state); }

show_afterwards() {
	local after key before now records
	# The kernel needs a moment to settle a link that came back; not a second.
	lab_wait 2 nic_is_back || true
	after=$(lab_nic_state 2>/dev/null)
	table "Afterwards: $LAB_NIC on the host" "" "before" "after"
	for key in name mac altnames mtu txqlen gso_max_size up addresses routes qdiscs; do
		before=$(nic_field "$NIC_BEFORE" "$key") now=$(nic_field "${after:-[]}" "$key")
		check "$(right test "$before" = "$now")" "${key//_/ }" "${before:--}" "${now:--}"
	done
	records=$(lab_records | wc -l)
	check "$(right test "$records" = 0)" "records in the ledger" 0 "$records"
	table_end
}

nic_is_back() { [[ $(lab_nic_state) == "$NIC_BEFORE" ]]; }

nic_field() { jq -r --arg k "$2" 'if type == "object" then .[$k] | if type == "array" then join(", ") else tostring end else "" end' <<<"$1"; }
