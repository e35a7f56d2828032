"""A `gcloud compute tpus` whose slices are processes of this machine, and their hosts directories.

What there is stands in `$SIMULATION/state.json`: the requests with the states that they still go
through (each look at one is a step), what the next requests will meet (`outcomes`), and all calls.
A host is a directory, `$SIMULATION/hosts/NODE-w-N`, which is its HOME; `ssh` is bash in it, `scp` a
copy into it. Messages and exit codes are gcloud's.
"""

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(os.environ["SIMULATION"])
USUAL = ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
ERRORS = {
    "quota": "RESOURCE_EXHAUSTED: Quota limit 'TPUV5sLitepodPerProjectPerZone' has been exceeded.",
    "denied": "PERMISSION_DENIED: Permission 'tpu.nodes.create' denied on 'projects/p'.",
}
CHIPS_A_HOST = 4


class Failed(Exception):
    """What gcloud says on stderr; its exit code is 1."""


@contextlib.contextmanager
def world() -> Iterator[dict]:
    """The state, ours alone until the block ends, and written back then."""
    with (ROOT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = ROOT / "state.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        found = {"requests": {}, "outcomes": [], "calls": [], "lost": 0} | found
        try:
            yield found
        finally:
            path.with_suffix(".new").write_text(json.dumps(found, indent=1))
            path.with_suffix(".new").rename(path)  # who reads it without the lock finds it whole


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="gcloud", allow_abbrev=False)
    top.add_argument("--quiet", action="store_true", required=True)  # else it could ask
    top.add_argument("group", choices=["compute"])
    top.add_argument("kind", choices=["tpus"])
    groups = top.add_subparsers(dest="resource", required=True)
    for resource, verbs in {
        "queued-resources": {
            "create": ("accelerator-type! runtime-version! node-id node-count node-prefix", 1),
            "describe": ("format!", 1),
            "delete": ("", 1),
        },
        "tpu-vm": {
            "describe": ("format!", 1),
            "ssh": ("worker! command!", 1),
            "scp": ("worker!", 2),
        },
    }.items():
        parts = groups.add_parser(resource).add_subparsers(dest="verb", required=True)
        for verb, (options, names) in verbs.items():
            one = parts.add_parser(verb, allow_abbrev=False)
            one.add_argument("names", nargs=names)
            one.add_argument("--zone", required=True)
            for option in options.split():
                one.add_argument(f"--{option.rstrip('!')}", required=option.endswith("!"))
            for flag in {"create": ["--spot"], "delete": ["--force"]}.get(verb, []):
                one.add_argument(flag, action="store_true")
    return top


def create(args) -> None:
    name, count = args.names[0], args.node_count
    if (args.node_id is None) == (count is None) or (count and int(count) < 2):
        raise Failed("argument --node-id | --node-count: one of both, the count above 1")
    with world() as now:
        if name in now["requests"]:
            raise Failed(f"ALREADY_EXISTS: Resource '{name}' already exists")
        outcome = now["outcomes"].pop(0) if now["outcomes"] else USUAL
        if isinstance(outcome, str):
            raise Failed(ERRORS[outcome])
        prefix = args.node_prefix or name
        names = [f"{prefix}-{i}" for i in range(int(count))] if count else [args.node_id]
        spec = {"node": {"acceleratorType": args.accelerator_type}}
        if count:
            spec["multisliceParams"] = {"nodeCount": int(count), "nodeIdPrefix": prefix}
        now["requests"][name] = {
            "states": ["CREATING", *outcome],
            "tpu": {"nodeSpec": [spec]},
            "nodes": dict.fromkeys(names, "CREATING"),
            "spot": args.spot,
        }


def describe(args) -> None:
    name = args.names[0]
    with world() as now:
        if args.resource == "tpu-vm":
            found = {"state": _request(now, name)["nodes"][name]}
        elif name not in now["requests"]:
            raise _no(name)
        else:
            request = now["requests"][name]
            if len(request["states"]) > 1:
                request["states"].pop(0)
            if request["states"] == ["ACTIVE"]:
                _provision(request)
            found = request | {"state": {"state": request["states"][0]}}
    print(_formatted(found, args.format))


def _provision(request: dict) -> None:
    """Makes the hosts of slices that have none yet."""
    kind = request["tpu"]["nodeSpec"][0]["node"]["acceleratorType"]
    chips = int(kind.rpartition("-")[2]) // (1 if kind.startswith(("v5litepod", "v6e")) else 2)
    for node, state in request["nodes"].items():
        if state == "CREATING":
            request["nodes"][node] = "READY"
            for worker in range(max(1, chips // CHIPS_A_HOST)):
                (ROOT / "hosts" / f"{node}-w-{worker}").mkdir(parents=True)


def _formatted(found: dict, wanted: str) -> str:
    """gcloud's `value[separator='|'](a.b[0].c, ...)`."""
    how = re.fullmatch(r"value(?:\[separator='(.)'\])?\((.+)\)", wanted)
    values = []
    for field in how[2].split(","):
        value = found
        for part in re.findall(r"\w+", field):
            try:
                value = value[int(part) if part.isdigit() else part]
            except (KeyError, IndexError):
                value = ""
                break
        values.append(str(value))
    return (how[1] or "\t").join(values)


def delete(args) -> None:
    name = args.names[0]
    with world() as now:
        if name not in now["requests"]:
            raise _no(name)
        if not args.force:
            raise Failed("FAILED_PRECONDITION: it has nodes; use --force")
        for node in now["requests"].pop(name)["nodes"]:
            take_down(node)


def take_down(node: str) -> None:
    """The hosts of a slice are gone, with all that they do."""
    for host in hosts(node):
        for process in (host / ".processes", host / "promot_jax/.pod/process"):
            for number in process.read_text().split() if process.exists() else ():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(os.getpgid(int(number)), signal.SIGKILL)
        shutil.rmtree(host)


def hosts(node: str) -> list[Path]:
    return sorted((ROOT / "hosts").glob(f"{node}-w-*"))


def ssh(args) -> None:
    node = args.names[0]
    chosen = _chosen(node, args.worker)
    started = []
    for host in chosen:
        process = subprocess.Popen(
            ["bash", "-c", args.command], cwd=host, env=_environment(node, host),
            start_new_session=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        started.append(process)
        with (host / ".processes").open("a") as file:
            print(process.pid, file=file)
    try:
        codes = [process.wait() for process in started]
    except KeyboardInterrupt:  # the connection ends, and what it had begun
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        sys.exit(130)
    if min(codes) < 0:
        raise Failed("[/usr/bin/ssh] exited with return code [255].")
    sys.exit(max(codes))


def scp(args) -> None:
    source, (node, _, path) = args.names[0], args.names[1].partition(":")
    for host in _chosen(node, args.worker):
        shutil.copy(source, host / path)


def _chosen(node: str, worker: str) -> list[Path]:
    with world() as now:
        state = _request(now, node)["nodes"][node]
        if now["lost"]:
            now["lost"] -= 1
            raise Failed("[/usr/bin/ssh] exited with return code [255].")
    if state != "READY":
        raise Failed(f"This TPU has terminal state {state!r}, so it cannot be used anymore.")
    found = hosts(node)
    return found if worker == "all" else [found[int(worker)]]


def _environment(node: str, host: Path) -> dict[str, str]:
    """What a machine's own metadata says to JAX, and its own programs."""
    with world() as now:
        nodes = list(_request(now, node)["nodes"])
    everyone = [each for name in nodes for each in hosts(name)]
    return os.environ | {
        "HOME": str(host),
        "PATH": f"{ROOT / 'host_bin'}:{os.environ['PATH']}",
        "JAX_COORDINATOR_ADDRESS": os.environ.get("COORDINATOR", ""),
        "JAX_NUM_PROCESSES": str(len(everyone)),
        "JAX_PROCESS_ID": str(everyone.index(host)),
    }


def _request(now: dict, node: str) -> dict:
    for request in now["requests"].values():
        if node in request["nodes"]:
            return request
    raise _no(node)


def _no(name: str) -> Failed:
    return Failed(f"NOT_FOUND: Resource 'projects/p/locations/z/{name}' was not found")


def main() -> None:
    args = parser().parse_args()
    with world() as now:
        now["calls"].append(" ".join(sys.argv[4:]))
    try:
        {f.__name__: f for f in (create, describe, delete, ssh, scp)}[args.verb](args)
    except Failed as error:
        print(f"ERROR: (gcloud.compute.tpus.{args.resource}.{args.verb}) {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
