#!/usr/bin/env bash
# Starts `promot run --multihost` on every host of the slices that create.sh made, and shows the
# output of the first one, which speaks for all.
#
#   tpu_scripts/run.sh NAME ZONE ARGUMENTS-OF-PROMOT-RUN
#   tpu_scripts/run.sh promot us-west4-a --gin_file=gin/recipes/promot.gin \
#     --gin_file=gin/models/mt5_xxl.gin --gin_file=gin/tasks/rte.gin \
#     --gin_file=gin/meshes/fsdp.gin --gin.WORKDIR='"gs://bucket/rte"'
#
# All hosts must see the work directory: a bucket, or NFS. Who they are, and of which slice, JAX
# learns from the machines themselves. The run goes on when this script is interrupted or loses the
# connection; the same command shows it again, or continues it where it stopped. Exit codes: that of
# promot, 75 where it was interrupted (a slice or host is gone) and 3 where stop.sh stopped it.
source "$(dirname "$0")/common.sh"

case ${1:-} in -h | --help) help ;; esac
given=("${@:1:2}")
named 'NAME ZONE'
shift 2
[[ ${1:-} != -- ]] || shift
(($#)) || die 2 "give the arguments of promot run, such as --gin_file=...: see $0 --help"
start="promot_jax/tpu_scripts/host.sh start$(printf ' %q' "$@")"
CHECK=${CHECK:-300}   # seconds between two looks at all hosts
LINGER=${LINGER:-120} # seconds that a host may need longer than the first that has ended

# The first host of each slice: all but one of them say nothing.
follow() {
  local node waiting=()
  for node in "${nodes[@]}"; do
    on_hosts "$node" 0 "promot_jax/tpu_scripts/host.sh follow $1" &
    waiting+=($!)
  done
  wait "${waiting[@]}" || true
}

# Until nothing is followed any more, or CHECK seconds are over.
attend() {
  local timer
  sleep "$CHECK" &
  timer=$!
  wait -n "$follower" "$timer" || true
  kill "$timer" 2>/dev/null || true
}

# A host that hangs cannot say so: the others have noticed, and are gone.
end_stragglers() {
  if every running; then ended=""; else : "${ended:=$SECONDS}"; fi
  [[ -z $ended ]] || ((SECONDS - ended < LINGER)) ||
    everywhere "promot_jax/tpu_scripts/host.sh kill" >&2 || true
}

# What hosts that failed said last.
explain() { grep -E '^(failed:|interrupted)' "$scratch/hosts" >&2 || true; }

trap 'say "the run goes on: $HERE/logs.sh or $HERE/stop.sh $name $zone"; cost; exit 130' INT
look
[[ $state != ABSENT ]] || die 1 "$name is not there: $HERE/create.sh $name $zone ACCELERATOR"
all_ready || die "$AGAIN" "$name is $state, or a slice of it is gone: see $HERE/status.sh $name $zone"
everywhere "$start" || die "$(how_bad)" "$(reason)"
cost
lines=+1 lost=0 ended="" follower=""
while :; do
  if [[ -z $follower ]] || ! kill -0 "$follower" 2>/dev/null; then
    [[ -z $follower ]] || sleep "$POLL"
    follow "$lines" &
    follower=$! lines=0
  fi
  attend
  now=$(outcome)
  case $now in
    running) lost=0 && end_stragglers ;;
    gone) # or the connection is, for a while
      if ((++lost == 5)) || ! look || ! all_ready; then break; fi ;;
    *) break ;;
  esac
done
[[ $now == gone ]] || wait "$follower" || true
look
case $now in
  finished) say "$name: the run is finished" && code=0 ;;
  stopped) say "$name: the run was stopped, and the same command goes on" && code=$STOPPED ;;
  failed*) explain && code=${now#failed } ;;
  *) explain && say "$name: the run was interrupted, and the same command goes on" && code=$AGAIN ;;
esac
cost
exit "$code"
