#!/usr/bin/env bash
# Starts `promot run` on every host of a slice made by create.sh, and follows its output.
#
#   tpu_scripts/run.sh NAME ZONE ARGUMENTS-OF-PROMOT-RUN
#   tpu_scripts/run.sh promot us-west4-a --gin_file=gin/recipes/promot.gin \
#     --gin_file=gin/models/mt5_xxl.gin --gin_file=gin/tasks/rte.gin \
#     --gin_file=gin/meshes/fsdp.gin --gin.WORKDIR='"/mnt/bucket/rte"'
#
# The work directory must be one that all hosts see: a bucket mounted by gcsfuse on each, or NFS. The
# run goes on when the connection
# is lost; its output is in promot_jax/promot.log on each host. After a preemption the same command
# continues it.
set -euo pipefail

[[ $# -ge 3 ]] || { sed -n '2,/^set/{/^#/p}' "$0"; exit 2; }
name=$1 zone=$2
shift 2
arguments=$(printf ' %q' "$@")

gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="
  cd promot_jax
  : >promot.log
  nohup .venv/bin/promot run --multihost$arguments >>promot.log 2>&1 </dev/null &
  tail --pid=\$! --lines=+1 --follow promot.log
  wait \$!"
