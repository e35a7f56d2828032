"""One run by several processes, as on several hosts: each has one device of the mesh."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from command_lines import FAST, SCRIPT, SMALL, flags, own_task

from promot_jax.paths import as_path

sys.path.append(str(Path(__file__).parents[1] / "tpu_scripts"))
from clouds import Cloud, wait_for
from clouds import finish as resumed

PATIENCE = 300  # seconds, far more than a run takes
ONE_DEVICE = {"XLA_FLAGS": os.environ["XLA_FLAGS"]}


def command(recipe: str, workdir: str, **settings) -> list[str]:
    return [
        "run", f"--gin_file=gin/recipes/{recipe}.gin", "--gin_file=gin/models/lab.gin",
        *own_task("mine.tsv", "mine"), *flags(WORKDIR=workdir, **SMALL | settings), *FAST,
    ]  # fmt: skip


def start(environment, folder, arguments, count: int = 2) -> list[subprocess.Popen]:
    """The same command on several hosts."""
    own = ONE_DEVICE | {"JAX_COORDINATOR_ADDRESS": free(), "JAX_NUM_PROCESSES": str(count)}
    return [
        subprocess.Popen(
            [SCRIPT, *arguments, "--multihost"], cwd=folder, stderr=subprocess.PIPE, text=True,
            env=environment | own | {"JAX_PROCESS_ID": str(index)},
        )
        for index in range(count)
    ]  # fmt: skip


def free() -> str:
    """An address that nobody has."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return f"localhost:{found.getsockname()[1]}"


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


def test_four_hosts_in_two_slices_do_what_one_does(promot, environment, folder, bucket):
    """They work in a bucket, and one on a disk."""
    settings = {"STEPS": 4, "UNFREEZE": 2}
    done = promot(command("promot_joint", "one", **settings, MESH={"fsdp": 2}), folder)
    assert done.code == 0, done.err
    arguments = command(
        "promot_joint", f"{bucket[1]}/four", **settings, MESH={"slice": 2, "fsdp": 2}
    )
    first, *others = finish(start(environment, folder, arguments, 4))
    assert "page: " in first and "2-model" in first
    assert not any("2-model" in said for said in others)
    one, four = folder / "one", as_path(bucket[1]) / "four"
    assert losses(four) == pytest.approx(losses(one), rel=1e-5)
    assert scores(four) == scores(one)
    for stage in ("1-prompt", "2-model"):
        samples = {x.name for x in (one / stage / "samples").iterdir()}
        assert {x.name for x in (four / stage / "samples").iterdir()} == samples


class Long:
    """A run of two hosts that need all rows of a batch, and what it has logged."""

    def __init__(self, folder):
        settings = {"MESH": {"tensor": 2}, "PROMPT_STEPS": 400, "PROMPT_EVALUATE_EVERY": 50}
        self.arguments = command("prompt_tuning", "long", **settings)
        self.metrics = folder / "long/1-prompt/metrics.jsonl"

    def lines(self) -> list[dict]:
        if not self.metrics.exists():
            return []
        return list(map(json.loads, self.metrics.read_text(encoding="utf-8").splitlines()))

    def reaches(self, step: int, process: subprocess.Popen) -> None:
        """Waits, as long as the process is there."""

        def there() -> bool:
            assert process.poll() is None, process.communicate()
            return any(line["step"] >= step for line in self.lines())

        wait_for(there, PATIENCE)


def test_hosts_that_hang_and_die(promot, environment, folder, tmp_path):
    """Each time the other ends with a line, and the next run goes on: here, on slices, on one."""
    long = Long(folder)
    hosts = start(environment, folder, [*long.arguments, "--host_timeout=8"])
    long.reaches(60, hosts[0])
    hosts[1].send_signal(signal.SIGSTOP)
    said = hosts[0].communicate(timeout=PATIENCE)[1]
    assert hosts[0].returncode == 75, said
    lines = [x for x in said.splitlines() if not x.startswith(("1-prompt", "BASE"))]
    assert len(lines) == 1, lines
    whichever_is_seen_first = "(has died or hangs|hangs: it is 8 s behind the others)"
    again = "run the same command on all hosts again to go on"
    assert re.fullmatch(f"promot run: host 1 {whichever_is_seen_first}: {again}", lines[0]), lines
    hosts[1].kill()
    hosts[1].communicate()

    cloud = Cloud(tmp_path, f'cd {folder} && exec {SCRIPT} "$@"')
    own = ONE_DEVICE | {"COORDINATOR": free()}
    where = ("promot", "us-west4-a", "v5p-16", "--retries=1", "--delete", "--")
    begun = cloud.start("resume", *where, *long.arguments[1:], **environment | own)
    long.reaches(110, begun)

    def process(worker: int) -> int:
        return int((cloud.host("promot", worker) / ".pod/process").read_text())

    os.kill(process(0), signal.SIGKILL)
    reached = long.lines()[-1]["step"]
    wait_for(lambda: len(cloud.calls("host.sh start")) == 2, PATIENCE)
    long.reaches(reached + 20, begun)
    os.kill(process(1), signal.SIGINT)  # becomes a SIGTERM, of which all hosts are told
    done = resumed(begun)
    assert done.code == 75 and "given up after 1 tries" in done.err
    assert "interrupted promot-w-1 " in done.err and "promot is not there" in done.err
    assert done.out.count("1-prompt: continues at step") == 2
    assert "stage 1-prompt: run the same command to go on" in done.out

    done = promot(long.arguments, folder)
    assert done.code == 0 and "1-prompt: continues at step" in done.err
    assert [x["step"] for x in long.lines()] == list(range(10, 401, 10))


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


def test_a_time_that_cannot_be_meant(script, environment, folder):
    for more, says in (
        (["--multihost", "--host_timeout=1"], "--host_timeout = 1: set 5 to 86400 seconds"),
        (["--host_timeout=60"], "--host_timeout = 60: it is for --multihost, give that too"),
    ):
        done = script([*command("finetune", "alone"), *more], folder)
        assert done.code == 2 and says in done.err and done.err.count("\n") == 1
