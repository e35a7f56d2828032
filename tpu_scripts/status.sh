#!/usr/bin/env bash
# Says what there is, what each host does, and what it costs.
#
#   tpu_scripts/status.sh NAME ZONE
#
# A host is bare (not installed), idle, running, or its run is finished, stopped (by stop.sh),
# interrupted (run.sh and resume.sh go on) or failed:CODE; then the last line of its output.
source "$(dirname "$0")/common.sh"

read_arguments '' "$@"
named 'NAME ZONE'
look
if [[ $state != ABSENT ]]; then
  echo "$name: $state, $slices x $kind"
  requested=("${nodes[@]}")
  for each in "${requested[@]}"; do
    now=$(node_state "$each")
    echo "  $each: $now"
    [[ $state == ACTIVE && $now == READY ]] || continue
    nodes=("$each")
    if hosts; then
      while read -r what host _ line; do echo "    $host: $what  $line"; done <"$scratch/hosts"
    else
      echo "    its hosts do not answer: $(reason)"
    fi
  done
fi
cost
