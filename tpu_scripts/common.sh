# shellcheck shell=bash
# What the scripts for TPU slices share; each of them reads this file first.
#
# A request for slices ("queued resource") has a name, a zone and one or several slices ("nodes"),
# each of which has hosts ("workers"). gcloud speaks to all hosts of a slice at once; what a host
# does is in host.sh. Whatever is asked can be asked again: gcloud repeats a command when a
# connection breaks, and so do people.
set -euo pipefail

HERE=$(dirname "$0")
POLL=${POLL:-30} # seconds between two looks at something that takes its time
PRICES=https://cloud.google.com/tpu/pricing
AGAIN=75 # the exit code of what may work later: no capacity, a slice or a host that is gone
# shellcheck disable=SC2034 # it is for who reads this file
STOPPED=3 # the exit code of a run that stop.sh stopped

scratch=$(mktemp -d)
trap 'kill $(below $$) 2>/dev/null || true; rm -rf "$scratch"' EXIT

# below PROCESS: all that it started; of what a script leaves when it is interrupted, ssh would go on
# printing.
below() {
  local each
  for each in $(pgrep -P "$1"); do
    below "$each"
    echo "$each"
  done
}

say() { printf '%s\n' "$*" >&2; }

# die CODE LINE: one line, with the script's name.
die() {
  local code=$1
  shift
  say "$(basename "$0"): $*"
  exit "$code"
}

# The comment that a script begins with.
help() {
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
  exit 0
}

# read_arguments OPTIONS ARGUMENTS: fills `given` (NAME ZONE ...), `option` and `rest` (after --).
# OPTIONS is a list of names; one that ends with = takes a value.
declare -A option=()
given=() rest=()
read_arguments() {
  local known=" $1 " name
  shift
  while (($#)); do
    name=${1#--} name=${name%%=*}
    case $1 in
      -h | --help) help ;;
      --) rest=("${@:2}") && return ;;
      --*=?*) [[ $known == *" $name= "* ]] || die 2 "unknown option $1: see $0 --help"
        option[$name]=${1#*=} ;;
      -*) [[ $known == *" $name "* ]] || die 2 "unknown option $1: see $0 --help"
        option[$name]=yes ;;
      *) given+=("$1") ;;
    esac
    shift
  done
}

# named WORDS: the first of `given` are NAME and ZONE, and there are as many as WORDS says.
named() {
  local words
  read -ra words <<<"$1"
  ((${#given[@]} == ${#words[@]})) || die 2 "give $1: see $0 --help"
  name=${given[0]} zone=${given[1]}
  [[ $name =~ ^[a-z]([a-z0-9-]*[a-z0-9])?$ ]] ||
    die 2 "NAME is '$name': give small letters, digits and -, a letter first"
  [[ $zone =~ ^[a-z]+-[a-z]+[0-9]+-[a-z]$ ]] || die 2 "ZONE is '$zone': give one such as us-west4-a"
  command -v gcloud >/dev/null || die 1 "gcloud is not there: https://cloud.google.com/sdk/docs/install"
}

# number OPTION DEFAULT: the value of an option that is a whole number.
number() {
  local value=${option[$1]:-$2}
  [[ $value =~ ^(0|[1-9][0-9]{0,8})$ ]] || die 2 "--$1=$value: give a whole number"
  echo "$value"
}

# gcloud, which asks nothing; what it says on stderr is in $scratch/said.
tpus() { gcloud --quiet compute tpus "$@" </dev/null 2>"$scratch/said"; }

# What a host or gcloud has said of an error, in one line.
reason() {
  local line
  line=$(grep -m 1 '^host.sh: ' "$scratch/said" || grep -m 1 '^ERROR: ' "$scratch/said" ||
    tail -n 1 "$scratch/said")
  printf '%s' "${line#ERROR: }" | cut -c 1-400
}

# The exit code for that: 1 where asking again cannot help.
how_bad() {
  local hopeless='^host.sh: |PERMISSION_DENIED|UNAUTHENTICATED|INVALID_ARGUMENT|auth login'
  hopeless+='|\[project\]|argument '
  if grep -qE "$hopeless" "$scratch/said"; then echo 1; else echo "$AGAIN"; fi
}

# ask FORMAT KIND NAME: describes a request or a slice; prints ABSENT where there is none.
ask() {
  local tries
  for tries in 1 2 3; do
    if tpus "$2" describe "$3" --zone="$zone" --format="$1"; then return; fi
    if grep -q NOT_FOUND "$scratch/said"; then
      echo ABSENT
      return
    fi
    ((tries == 3)) || sleep "$POLL"
  done
  die "$(how_bad)" "$(reason)"
}

# look: `state` of the request, its `kind` and number of `slices`, its `nodes`. Of a multislice
# request for NAME the slices are NAME-0, NAME-1, ...
look() {
  local found fields
  fields='state.state,tpu.nodeSpec[0].node.acceleratorType,tpu.nodeSpec[0].multisliceParams.nodeCount'
  found=$(ask "value[separator='|']($fields)" queued-resources "$name") || return
  IFS='|' read -r state kind slices <<<"$found"
  nodes=("$name")
  [[ -z $slices ]] || mapfile -t nodes < <(seq -f "$name-%.0f" 0 $((slices - 1)))
  slices=${slices:-1}
}

node_state() { ask 'value(state)' tpu-vm "$1"; }

# Whether every slice of an active request is there: one that is preempted may be gone before the
# request says so.
all_ready() {
  local node found
  [[ $state == ACTIVE ]] || return 1
  for node in "${nodes[@]}"; do
    found=$(node_state "$node") || exit # not to know is not to know that it is gone
    [[ $found == READY ]] || return 1
  done
}

# chips KIND: of one slice. v5e and v6e count chips, the others cores, two a chip.
chips() {
  case $1 in
    v5litepod-* | v6e-*) echo "${1##*-}" ;;
    *) echo $((${1##*-} / 2)) ;;
  esac
}

# cost: what the request costs, and what ends that.
cost() {
  case $state in
    ABSENT) say "$name is not there: it costs nothing" ;;
    ACTIVE | PROVISIONING | SUSPENDING | DELETING)
      say "$name is paid for by the second: $slices x $kind, $((slices * $(chips "$kind"))) chips" \
        "($PRICES), until $HERE/delete.sh $name $zone" ;;
    *) say "$name costs nothing while it is $state; $HERE/delete.sh $name $zone takes it back" ;;
  esac
}

# on_hosts NODE WORKER COMMAND: of one slice; the hosts' stdout is ours.
on_hosts() {
  local said=$scratch/$1.$BASHPID
  gcloud --quiet compute tpus tpu-vm ssh "$1" --zone="$zone" --worker="$2" --command="$3" \
    </dev/null 2>"$said" && return
  local code=$?
  cat "$said" >>"$scratch/said"
  return $code
}

# everywhere COMMAND: on all hosts of all slices at once; fails where one fails.
everywhere() {
  local node failed=0 waiting=()
  : >"$scratch/said"
  for node in "${nodes[@]}"; do
    on_hosts "$node" all "$1" &
    waiting+=($!)
  done
  for node in "${waiting[@]}"; do
    wait "$node" || failed=$?
  done
  return $failed
}

# What every host says of its run, a line each, into $scratch/hosts; fails where one does not answer.
hosts() {
  # shellcheck disable=SC2016 # the host's name, not ours
  everywhere 'promot_jax/tpu_scripts/host.sh state 2>/dev/null || echo "bare $(hostname) - -"' \
    >"$scratch/hosts"
}

# Whether any host, or every one, is in a state that fits a pattern.
any() { grep -qE "^($1) " "$scratch/hosts"; }
every() { any "$1" && ! grep -qvE "^($1) " "$scratch/hosts"; }

# What all hosts' states together mean for the run.
outcome() {
  local code
  hosts || { echo gone && return; }
  code=$(sed -nE 's/^failed:([0-9]+) .*/\1/p' "$scratch/hosts" | head -n 1)
  if any running; then echo running
  elif [[ -n $code ]]; then echo "failed $code"
  elif any stopped; then echo stopped
  elif every finished; then echo finished
  elif every 'idle|bare'; then echo idle
  else echo interrupted; fi
}
