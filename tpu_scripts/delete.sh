#!/usr/bin/env bash
# Deletes slices and their request, and waits until they are gone: then nothing costs any more.
#
#   tpu_scripts/delete.sh NAME ZONE
#
# A run that is at work is not asked to save: stop.sh does that. The work directory stays.
source "$(dirname "$0")/common.sh"

read_arguments '' "$@"
named 'NAME ZONE'
failed=0
while look || exit; [[ $state != ABSENT ]]; do
  if [[ $state != DELETING ]] &&
    ! tpus queued-resources delete "$name" --zone="$zone" --force >/dev/null &&
    ! grep -q NOT_FOUND "$scratch/said"; then
    # one that is just being made or suspended cannot be deleted at once
    code=$(how_bad)
    ((code == AGAIN && ++failed < 10)) || die "$code" "$name is NOT deleted: $(reason)"
  fi
  sleep "$POLL"
done
cost
