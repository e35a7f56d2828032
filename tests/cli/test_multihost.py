"""One run by two processes, as on two hosts: each has one device of the mesh."""

import fcntl
import json
import signal
import socket
import subprocess
import time

import pytest
from command_lines import SCRIPT, SMALL, flags, own_task

from promot_jax.paths import as_path

PATIENCE = 300  # seconds, far more than a run takes


def command(recipe: str, workdir: str, **settings) -> list[str]:
    return [
        "run", f"--gin_file=gin/recipes/{recipe}.gin", "--gin_file=gin/models/lab.gin",
        *own_task("mine.tsv", "mine"), *flags(WORKDIR=workdir, **SMALL | settings),
    ]  # fmt: skip


def start(environment, folder, arguments) -> list[subprocess.Popen]:
    """The same command on two hosts."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    own = {"XLA_FLAGS": "", "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    return [
        subprocess.Popen(
            [SCRIPT, *arguments, "--multihost"], cwd=folder, stderr=subprocess.PIPE, text=True,
            env=environment | own | {"JAX_PROCESS_ID": str(index)},
        )
        for index in range(2)
    ]  # fmt: skip


def finish(hosts: list[subprocess.Popen], code: int = 0) -> list[str]:
    """What each says on stderr, once both have ended with this exit code."""
    said = [host.communicate(timeout=PATIENCE)[1] for host in hosts]
    assert [host.returncode for host in hosts] == [code] * len(hosts), said
    return said


def losses(workdir) -> list[float]:
    lines = [
        json.loads(line)
        for stage in ("1-prompt", "2-model")
        for line in (workdir / stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return [line["loss"] for line in lines]


def scores(workdir) -> list[tuple]:
    rows = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
    return [(row["stage"], row["step"], row["task"], row["value"]) for row in rows]


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts")
    (path / "mine.tsv").write_text(rows, encoding="utf-8")
    return path


def test_two_hosts_do_what_one_does(promot, environment, folder, bucket):
    """Over `tensor`, so that both hosts need all rows of a batch; `data` is below.

    They work in a bucket, and one on a disk; two on a disk are below, too.
    """
    settings = {"STEPS": 4, "UNFREEZE": 2, "MESH": {"tensor": 2}}
    done = promot(command("promot_joint", "one", **settings), folder)
    assert done.code == 0, done.err
    hosts = start(environment, folder, command("promot_joint", f"{bucket[1]}/two", **settings))
    first, second = finish(hosts)
    assert "page: " in first and "2-model" in first and "2-model" not in second
    one, two = folder / "one", as_path(bucket[1]) / "two"
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    assert scores(two) == scores(one)
    for stage in ("1-prompt", "2-model"):
        samples = {x.name for x in (one / stage / "samples").iterdir()}
        assert {x.name for x in (two / stage / "samples").iterdir()} == samples


def test_a_signal_to_one_host_stops_both(environment, folder):
    settings = {"MESH": {"data": 2}, "PROMPT_STEPS": 400, "PROMPT_EVALUATE_EVERY": 50}
    arguments = command("prompt_tuning", "stopped", **settings)
    hosts = start(environment, folder, arguments)
    metrics, end = folder / "stopped/1-prompt/metrics.jsonl", time.monotonic() + PATIENCE
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < end:
        time.sleep(0.1)
    hosts[1].send_signal(signal.SIGINT)  # becomes a SIGTERM, of which all hosts are told
    said = finish(hosts, 75)
    assert all("stage 1-prompt: run the same command to go on" in x for x in said)
    assert "1-prompt: continues at step" in finish(start(environment, folder, arguments))[0]
    steps = [json.loads(line)["step"] for line in metrics.read_text(encoding="utf-8").splitlines()]
    assert steps == list(range(10, 401, 10))


def test_all_hosts_say_what_is_wrong_on_the_first(environment, folder):
    (folder / "busy").mkdir()
    with (folder / "busy/config.gin").open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = finish(start(environment, folder, command("finetune", "busy")), 2)
    assert all("WORKDIR = 'busy' is in use by another process" in line for line in said)


def test_nobody_to_join(script, environment, folder):
    done = script([*command("finetune", "alone"), "--multihost"], folder)
    assert done.code == 2 and done.err.count("\n") == 1
    assert "--multihost: " in done.err and "JAX_COORDINATOR_ADDRESS" in done.err
