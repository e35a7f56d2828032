#!/usr/bin/env bash
# Shows what a run has said: the first host, which speaks for all, or each of them.
#
#   tpu_scripts/logs.sh NAME ZONE [--lines=100] [--follow] [--all]
#
# --lines shows the last ones alone, --follow goes on until the run ends, --all shows every host one
# after the other.
source "$(dirname "$0")/common.sh"

read_arguments 'lines= follow all' "$@"
named 'NAME ZONE'
[[ -z ${option[follow]:-} || -z ${option[all]:-} ]] || die 2 "--follow shows one host: leave --all out"
lines=+1
[[ -z ${option[lines]:-} ]] || lines=$(number lines 0)
look
[[ $state == ACTIVE ]] || die 1 "$name is $state: there are no hosts"
log="promot_jax/tpu_scripts/host.sh log $lines"
if [[ -n ${option[follow]:-} ]]; then
  on_hosts "${nodes[0]}" 0 "promot_jax/tpu_scripts/host.sh follow $lines" || die 1 "$(reason)"
elif [[ -n ${option[all]:-} ]]; then
  everywhere "echo \"== \$(hostname)
\$($log)\"" || die 1 "$(reason)"
else
  on_hosts "${nodes[0]}" 0 "$log" || die 1 "$(reason)"
fi
