#!/usr/bin/env bash
# What each host of a slice does for the other scripts, which call it there.
#
#   host.sh install COMMIT     what the run needs, into .venv
#   host.sh start ARGUMENTS    promot run --multihost ARGUMENTS, which goes on when nobody watches
#   host.sh follow [LINES]     its output, from the last LINES on, until it has ended
#   host.sh log [LINES]        the last LINES of its output
#   host.sh stop SECONDS       SIGTERM, on which it saves; kill, should it take longer
#   host.sh kill               SIGKILL
#   host.sh state              STATE HOST COMMIT and the last line of its output, in one line
#
# STATE is idle, running, finished, stopped (by stop), interrupted (what takes up the same command
# goes on) or failed:CODE. Whoever works holds a lock, .pod/lock, which ends with the process.
set -euo pipefail

cd "$(dirname "$0")/.."
mkdir -p .pod
touch promot.log .pod/lock

die() {
  echo "host.sh: $(hostname): $*" >&2
  exit 1
}

running() { ! flock --shared --nonblock .pod/lock true; }

install() {
  ! running || die "a run is at work: stop it first"
  # The hosts' own Python is 3.10: uv brings 3.12. Then the lock, and libtpu of the locked JAX's version.
  command -v make >/dev/null || sudo apt-get install --quiet --yes make
  if ! .venv/bin/python -c '' 2>/dev/null; then
    python3 -m pip install --quiet --user uv
    python3 -m uv venv --quiet --seed --clear --python 3.12 .venv
  fi
  make install >&2
  .venv/bin/python -m pip install --quiet --editable '.[tpu]' >&2
  echo "$1" >.pod/commit
}

start() {
  local arguments
  arguments=$(printf ' %q' "$@")
  [[ -x .venv/bin/promot ]] || die "promot is not installed here: create.sh does that"
  exec 9<.pod/lock
  if ! flock --wait 3 9; then # not at once: `running` has it for a moment
    [[ $(<.pod/arguments) == "$arguments" ]] || die "another run is at work: stop it first"
    return
  fi
  rm -f .pod/code .pod/asked .pod/process
  echo "$arguments" >.pod/arguments
  : >promot.log
  setsid --fork tpu_scripts/host.sh work "$@" >>promot.log 2>&1 </dev/null # has the lock, as it has what is open
  until [[ -e .pod/process ]]; do sleep 0.1; done
}

work() {
  local code=0
  .venv/bin/promot run --multihost "$@" &
  echo $! >.pod/process
  wait $! || code=$?
  echo "$code" >.pod/code
}

follow() {
  if running; then
    tail --pid="$(<.pod/process)" --lines="$1" --follow promot.log
  else
    tail --lines="$1" promot.log
  fi
}

stop() {
  local end=$((SECONDS + $1))
  running || return 0
  touch .pod/asked
  kill -TERM "$(<.pod/process)" || true
  while running && ((SECONDS < end)); do sleep 0.2; done
  if running; then
    echo "$(hostname): it has not ended in $1 s"
    end
  fi
}

end() {
  running || return 0
  echo "$(hostname): it is killed, and the last checkpoint counts"
  kill -KILL "$(<.pod/process)" || true
  while running; do sleep 0.2; done
}

state() {
  local code="" found
  [[ ! -e .pod/code ]] || code=$(<.pod/code)
  if running; then found=running
  elif [[ ! -e .pod/process ]]; then found=idle
  elif [[ $code == 0 ]]; then found=finished
  elif [[ -e .pod/asked ]]; then found=stopped
  # 75: stopped by a signal, or another host is gone; no code: the whole host went down.
  elif [[ -z $code || $code == 75 ]] || ((code >= 128)); then found=interrupted
  else found=failed:$code; fi
  echo "$found $(hostname) $(cat .pod/commit 2>/dev/null || echo -)" \
    "$(tail -n 1 promot.log | tr -cd '[:print:]' | cut -c 1-200)"
}

verb=$1
shift
case $verb in
  install | start | work | stop | state) "$verb" "$@" ;;
  follow) follow "${1:-+1}" ;;
  kill) end ;;
  log) tail --lines="${1:-+1}" promot.log ;;
  *) die "unknown verb $verb" ;;
esac
