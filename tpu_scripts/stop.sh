#!/usr/bin/env bash
# Stops the run: it saves, and run.sh with the same arguments goes on where it stopped.
#
#   tpu_scripts/stop.sh NAME ZONE [--wait=600]
#
# A host that has not ended after so many seconds is killed: what counts then is the checkpoint
# before. The slices stay, and are paid for until tpu_scripts/delete.sh NAME ZONE.
source "$(dirname "$0")/common.sh"

read_arguments 'wait=' "$@"
named 'NAME ZONE'
seconds=$(number wait 600)
look
if [[ $state == ACTIVE ]]; then
  everywhere "! test -x promot_jax/tpu_scripts/host.sh || promot_jax/tpu_scripts/host.sh stop $seconds" >&2 ||
    die "$AGAIN" "$(reason)"
fi
say "$name: no run is at work"
cost
