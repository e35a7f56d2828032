#!/usr/bin/env bash
# Gets a Cloud TPU slice and installs the committed tree on each of its hosts. Run it again to update
# the code on a slice that exists.
#
#   tpu_scripts/create.sh NAME ZONE [ACCELERATOR] [SOFTWARE]
#   tpu_scripts/create.sh promot us-west4-a v5litepod-16 v2-alpha-tpuv5-lite
#
# SOFTWARE by kind: v5e v2-alpha-tpuv5-lite, v5p v2-alpha-tpuv5, v6e v2-alpha-tpuv6e, v4
# tpu-ubuntu2204-base. Needs gcloud, logged in and with a project set. The slice costs money until
#   gcloud compute tpus queued-resources delete NAME --zone=ZONE --force
set -euo pipefail

[[ $# -ge 2 ]] || { sed -n '2,/^set/{/^#/p}' "$0"; exit 2; }
name=$1 zone=$2 accelerator=${3:-v5litepod-16} software=${4:-v2-alpha-tpuv5-lite}
cd "$(dirname "$0")/.."
tpus=(gcloud compute tpus)

state() {
  "${tpus[@]}" queued-resources describe "$name" --zone="$zone" --format='value(state.state)' 2>/dev/null
}

if ! state >/dev/null; then
  "${tpus[@]}" queued-resources create "$name" --node-id="$name" --zone="$zone" \
    --accelerator-type="$accelerator" --runtime-version="$software"
fi
until now=$(state) && [[ $now == ACTIVE ]]; do
  [[ $now != FAILED && $now != SUSPENDED ]] || { echo "$name is $now: delete it and try again"; exit 1; }
  echo "$name is ${now:-unknown}: looking again in 30 s"
  sleep 30
done

archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git archive --format=tar.gz --output="$archive" HEAD
"${tpus[@]}" tpu-vm scp "$archive" "$name:promot_jax.tar.gz" --zone="$zone" --worker=all
# The hosts' own Python is 3.10: uv brings 3.12. Then the lock, and libtpu of the locked JAX's version.
"${tpus[@]}" tpu-vm ssh "$name" --zone="$zone" --worker=all --command='
  set -eu
  mkdir -p promot_jax && tar xzf promot_jax.tar.gz -C promot_jax && cd promot_jax
  command -v make >/dev/null || sudo apt-get install --quiet --yes make
  if ! test -x .venv/bin/python; then
    python3 -m pip install --quiet --user uv
    python3 -m uv venv --quiet --seed --python 3.12 .venv
  fi
  make install
  .venv/bin/python -m pip install --quiet --editable ".[tpu]"'
echo "$name is ready: tpu_scripts/run.sh $name $zone --gin_file=..."
