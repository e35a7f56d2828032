#!/usr/bin/env bash
# Gets Cloud TPU slices and installs the committed tree on each of their hosts.
#
#   tpu_scripts/create.sh NAME ZONE ACCELERATOR [--spot] [--node-count=2] [--software=VERSION]
#   tpu_scripts/create.sh promot us-west4-a v5litepod-16
#
# ACCELERATOR is v4-N, v5p-N (N cores), v5litepod-N or v6e-N (N chips). --spot may be taken away at
# any time, for a lower price: resume.sh gets another. --node-count asks for so many slices, which
# train together over the data centre's network: MESH has an axis slice for them. --software is the
# image of the hosts, by default the one for the ACCELERATOR.
#
# Run it again to go on waiting, or to update the code. Needs gcloud, logged in and with a project.
# The slices are paid for until tpu_scripts/delete.sh NAME ZONE. Exit codes: 75 for what may work
# later (no capacity, no quota), 2 for wrong arguments.
source "$(dirname "$0")/common.sh"

read_arguments 'spot node-count= software=' "$@"
named 'NAME ZONE ACCELERATOR'
wanted=${given[2]} count=$(number node-count 1)
((count >= 1)) || die 2 "--node-count=$count: give 1 or more"
case $wanted in
  v5litepod-*) software=v2-alpha-tpuv5-lite ;;
  v5p-*) software=v2-alpha-tpuv5 ;;
  v6e-*) software=v2-alpha-tpuv6e ;;
  *) software=tpu-ubuntu2204-base ;;
esac
[[ $wanted =~ ^(v2|v3|v4|v5p|v5litepod|v6e)-[1-9][0-9]*$ ]] ||
  die 2 "ACCELERATOR is '$wanted': give v4-N, v5p-N, v5litepod-N or v6e-N"
commit=$(git -C "$HERE" rev-parse HEAD 2>/dev/null) ||
  die 1 "$HERE is in no git repository: it installs what is committed there"
[[ -z $(git -C "$HERE" status --porcelain) ]] || say "what is not committed is not installed"

request() {
  local shape=(--node-id="$name")
  ((count == 1)) || shape=(--node-count="$count" --node-prefix="$name")
  [[ -z ${option[spot]:-} ]] || shape+=(--spot)
  tpus queued-resources create "$name" --zone="$zone" --accelerator-type="$wanted" \
    --runtime-version="${option[software]:-$software}" "${shape[@]}" >/dev/null ||
    die "$(how_bad)" "$(reason)"
}

# Asks for the slices where nobody has, and waits until they are there.
await() {
  local before=""
  while look || exit; [[ $state != ACTIVE ]]; do
    case $state in
      ABSENT) request && continue ;;
      FAILED | SUSPEND*) die "$AGAIN" "$name is $state: $HERE/delete.sh $name $zone, and try again" ;;
    esac
    agrees
    [[ $state == "$before" ]] || say "$name is $state: waiting"
    before=$state
    sleep "$POLL"
  done
  agrees
}

agrees() {
  [[ $state == DELETING || "$kind x $slices" == "$wanted x $count" ]] ||
    die 2 "$name is there with $kind x $slices, and not $wanted x $count: delete it, or take another NAME"
}

copy() {
  local node
  git -C "$HERE/.." archive --format=tar.gz --output="$scratch/tree.tar.gz" "$commit"
  for node in "${nodes[@]}"; do
    tpus tpu-vm scp "$scratch/tree.tar.gz" "$node:promot_jax.tar.gz" --zone="$zone" --worker=all || return
  done
}

await
all_ready || die "$AGAIN" "a slice of $name is gone: $HERE/delete.sh $name $zone, and try again"
if hosts && every "[a-z]+(:[0-9]+)? [^ ]+ $commit"; then
  say "$name has commit ${commit:0:8} already"
else
  ! any running || die 1 "$name is at work: $HERE/stop.sh $name $zone first, to install another commit"
  copy || die "$AGAIN" "$(reason)"
  everywhere "set -e; mkdir -p promot_jax; tar xzf promot_jax.tar.gz -C promot_jax
    promot_jax/tpu_scripts/host.sh install $commit" >&2 ||
    die "$(how_bad)" "the installation failed: $(reason)"
fi
say "$name is ready: $HERE/run.sh $name $zone --gin_file=..."
cost
