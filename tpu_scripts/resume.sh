#!/usr/bin/env bash
# Gets slices, starts a run on them, and, whenever they are taken away, gets others and goes on, until
# the run is finished: create.sh, run.sh and delete.sh, again and again.
#
#   tpu_scripts/resume.sh NAME ZONE ACCELERATOR [--spot] [--node-count=2] [--software=VERSION] \
#     [--retries=10] [--delete] -- ARGUMENTS-OF-PROMOT-RUN
#   tpu_scripts/resume.sh promot us-west4-a v5litepod-16 --spot --delete -- \
#     --gin_file=gin/recipes/promot.gin --gin_file=gin/models/mt5_xxl.gin \
#     --gin_file=gin/tasks/rte.gin --gin_file=gin/meshes/fsdp.gin --gin.WORKDIR='"gs://bucket/rte"'
#
# It gives up after so many --retries in a row of which none ran for ten minutes, waiting between
# them half a minute, then a whole one, up to a quarter of an hour. What is wrong with the run itself
# (exit codes 1 and 2 of promot) ends it at once. --delete deletes the slices at the end, however it
# ends, and without it they are paid for until tpu_scripts/delete.sh NAME ZONE. It can itself be
# interrupted and started again; keep it in tmux, or on a small machine that stays.
source "$(dirname "$0")/common.sh"

LONG=${LONG:-600} # seconds after which a run has got somewhere
LONGEST=900       # seconds between two tries

read_arguments 'spot node-count= software= retries= delete' "$@"
named 'NAME ZONE ACCELERATOR'
((${#rest[@]})) || die 2 "give -- and the arguments of promot run: see $0 --help"
retries=$(number retries 10)
create=("${given[@]}")
for each in node-count software; do
  [[ -z ${option[$each]:-} ]] || create+=("--$each=${option[$each]}")
done
[[ -z ${option[spot]:-} ]] || create+=(--spot)

# One try: slices that are there, or else others, and the run on them.
try() {
  look || return
  case $state in
    FAILED | SUSPEND*) "$HERE/delete.sh" "$name" "$zone" || return ;;
    ACTIVE) all_ready || "$HERE/delete.sh" "$name" "$zone" || return ;;
  esac
  "$HERE/create.sh" "${create[@]}" || return
  "$HERE/run.sh" "$name" "$zone" -- "${rest[@]}"
}

# leave CODE: with the slices deleted, where that is asked for.
leave() {
  if [[ -n ${option[delete]:-} ]]; then
    "$HERE/delete.sh" "$name" "$zone" || exit
  else
    look && cost
  fi
  exit "$1"
}

trap 'look && cost; exit 130' INT
tries=0 wait=$POLL
while :; do
  begun=$SECONDS code=0
  (try) || code=$?
  ((code == AGAIN)) || leave "$code"
  if ((SECONDS - begun >= LONG)); then tries=0 wait=$POLL; fi
  ((++tries <= retries)) || { say "$name: given up after $retries tries in a row" && leave "$AGAIN"; }
  say "$name: trying again in $wait s ($tries of $retries)"
  sleep "$wait"
  wait=$(awk "BEGIN {print $wait * 2 < $LONGEST ? $wait * 2 : $LONGEST}")
done
