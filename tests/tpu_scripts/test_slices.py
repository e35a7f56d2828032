"""tpu_scripts/ against a gcloud that simulates: from creation to deletion, and all that happens."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from clouds import ROOT, Cloud, finish, wait_for

SCRIPTS = ("create", "run", "status", "logs", "stop", "resume", "delete")
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
FILES = sorted((ROOT / "tpu_scripts").glob("*.sh"))
AT = ("promot", "us-west4-a")
PAID = (
    "promot is paid for by the second: 1 x v5p-16, 8 chips (https://cloud.google.com/tpu/pricing)"
)
# promot that works until it is told to stop, and is done when it is started again.
WORKING = """
echo "$JAX_PROCESS_ID" >>"$SIMULATION/begun"
trap 'echo "promot: stopped at step 3: run the same command to go on"; exit 75' TERM
(($(wc -l <"$SIMULATION/begun") > HOSTS)) || { echo "1-prompt 3/10"; sleep 60 9<&- & wait $!; }
echo "results: there"
"""


def working(hosts: int) -> str:
    return WORKING.replace("HOSTS", str(hosts))


def begun(cloud: Cloud) -> list[str]:
    """The number of every host that has started."""
    path = cloud.simulation / "begun"
    return path.read_text().split() if path.exists() else []


@pytest.mark.skipif(SHELLCHECK is None, reason="needs shellcheck (the test extra has it)")
def test_the_scripts_are_clean():
    files = [*FILES, *(ROOT / "tpu_scripts").glob("*.sbatch")]
    done = subprocess.run(
        [SHELLCHECK, "-x", "--source-path=SCRIPTDIR", *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(cloud, name):
    done = cloud(name, "--help")
    assert done.code == 0 and done.err == "" and f"tpu_scripts/{name}.sh NAME ZONE" in done.out
    assert not cloud.state()["calls"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["create", "promot"], "give NAME ZONE ACCELERATOR: see"),
        (["create", *AT, "v5p-16", "more"], "give NAME ZONE ACCELERATOR: see"),
        (["create", "Promot 1", "us-west4-a", "v5p-16"], "NAME is 'Promot 1': give small letters"),
        (["create", "promot", "us-west4", "v5p-16"], "ZONE is 'us-west4': give one such as"),
        (["create", *AT, "h100-8"], "ACCELERATOR is 'h100-8': give v4-N"),
        (["create", *AT, "v5p-16", "--node-count=0"], "--node-count=0: give 1 or more"),
        (["create", *AT, "v5p-16", "--node-count=two"], "--node-count=two: give a whole number"),
        (["create", *AT, "v5p-16", "--node-count"], "unknown option --node-count: see"),
        (["create", *AT, "v5p-16", "--sopt"], "unknown option --sopt: see"),
        (["run", *AT], "give the arguments of promot run"),
        (["resume", *AT, "v5p-16", "--spot"], "give -- and the arguments of promot run"),
        (["resume", *AT, "v5p-16", "--retries=-1", "--", "x"], "--retries=-1: give a whole number"),
        (["logs", *AT, "--follow", "--all"], "--follow shows one host: leave --all out"),
        (["stop", *AT, "--wait=soon"], "--wait=soon: give a whole number"),
        (["status", "us-west4-a", "promot"], "ZONE is 'promot'"),
        (["delete"], "give NAME ZONE: see"),
    ],
)
def test_wrong_arguments_are_one_line(cloud, arguments, says):
    done = cloud(*arguments)
    assert done.code == 2 and done.err.count("\n") == 1 and says in done.err, done
    assert not cloud.state()["calls"]


def test_the_life_of_a_slice(cloud):
    cloud.promot(working(2))
    created = cloud("create", *AT, "v5p-16")
    assert created.code == 0, created
    for said in ("WAITING_FOR_RESOURCES: waiting", "promot is PROVISIONING: waiting", PAID):
        assert said in created.err
    assert "delete.sh promot us-west4-a" in created.err
    again = cloud("create", *AT, "v5p-16")
    assert again.code == 0 and "has commit" in again.err and len(cloud.calls("create promot")) == 1
    assert "idle" in cloud("status", *AT).out and len(cloud.calls("scp")) == 1

    arguments = (
        "--gin_file=a b.gin",
        "--gin.WORKDIR='\"gs://bucket/$x\"'",
        "--gin.MESH={'data': 1}",
    )
    run = cloud.start("run", *AT, *arguments)
    wait_for(lambda: len(begun(cloud)) == 2)
    status = cloud("status", *AT)
    assert status.code == 0 and status.out.count("running  1-prompt 3/10") == 2, status
    assert PAID in status.err
    assert cloud("logs", *AT, "--lines=1").out == "1-prompt 3/10\n"
    other = cloud("run", *AT, "--gin_file=other.gin")
    assert other.code == 1 and "another run is at work: stop it first" in other.err
    cloud.commit()
    newer = cloud("create", *AT, "v5p-16")
    assert newer.code == 1 and "promot is at work" in newer.err

    stopped = cloud("stop", *AT)
    assert stopped.code == 0 and PAID in stopped.err, stopped
    run = finish(run)
    assert run.code == 3 and "1-prompt 3/10" in run.out and "the run was stopped" in run.err
    assert cloud("create", *AT, "v5p-16").code == 0 and len(cloud.calls("scp")) == 2
    run = cloud("run", *AT, *arguments)
    assert run.code == 0 and run.out == "results: there\n" and "the run is finished" in run.err
    assert sorted(begun(cloud)) == ["0", "0", "1", "1"]
    command = (cloud.host("promot") / ".pod/arguments").read_text()
    given = subprocess.check_output(["bash", "-c", f"printf '%s\\n' {command}"], text=True)
    assert given.splitlines() == list(arguments)

    for _ in range(2):
        deleted = cloud("delete", *AT)
        assert deleted.code == 0 and deleted.err == "promot is not there: it costs nothing\n"
    assert cloud("status", *AT).err == "promot is not there: it costs nothing\n"
    assert cloud("run", *AT, "x").code == 1 and cloud("stop", *AT).code == 0


def test_several_slices(cloud):
    cloud.promot('echo "$JAX_PROCESS_ID of $JAX_NUM_PROCESSES"; ((JAX_PROCESS_ID < 3)) || exit 1')
    done = cloud("create", *AT, "v6e-8", "--node-count=2", "--spot", "--software=image")
    assert done.code == 0 and "2 x v6e-8, 16 chips" in done.err, done
    [call] = cloud.calls("create promot")
    assert (
        "--node-count=2 --node-prefix=promot --spot" in call and "--runtime-version=image" in call
    )
    run = cloud("run", *AT, "--gin_file=x")
    assert run.code == 1 and "failed:1 promot-1-w-1" in run.err and "3 of 4" in run.err, run
    assert sorted(run.out.splitlines()) == ["0 of 4", "2 of 4"]  # the first host of each
    everyone = cloud("logs", *AT, "--all").out.splitlines()
    assert sorted(x for x in everyone if " of " in x) == [f"{i} of 4" for i in range(4)]
    other = cloud("create", *AT, "v6e-8")
    assert other.code == 2 and "with v6e-8 x 2, and not v6e-8 x 1: delete it" in other.err
    assert cloud("delete", *AT).code == 0 and not list((cloud.simulation / "hosts").iterdir())


@pytest.mark.parametrize("state", ["SUSPENDED", "ACTIVE"])
def test_a_preempted_slice_is_replaced(cloud, state):
    """Also where the request does not say so yet, and only one of its slices is gone."""
    cloud.promot(working(4))
    resume = cloud.start(
        "resume", *AT, "v5p-16", "--node-count=2", "--spot", "--delete", "--", "--gin_file=x"
    )
    wait_for(lambda: len(begun(cloud)) == 4)
    gone = ["promot-0", "promot-1"] if state == "SUSPENDED" else ["promot-1"]
    cloud.preempt("promot", gone, state)
    if state == "ACTIVE":  # the hosts of the other slice notice, and end with this code
        for worker in range(2):
            pid = int((cloud.host("promot-0", worker) / ".pod/process").read_text())
            os.kill(pid, signal.SIGTERM)
    done = finish(resume)
    assert done.code == 0, done
    assert "trying again in 0.1 s (1 of 10)" in done.err and "the run is finished" in done.err
    assert done.err.endswith("promot is not there: it costs nothing\n")
    assert "results: there" in done.out
    assert len(cloud.calls("create promot")) == 2 and len(begun(cloud)) == 8
    assert not cloud.state()["requests"]


def test_no_quota_and_failures_are_tried_again(cloud):
    gone = ["PROVISIONING", "FAILED"]
    cloud.change(f"now['outcomes'] = ['quota', {gone}, ['ACTIVE', 'SUSPENDED'], ['ACTIVE']]")
    done = cloud("resume", *AT, "v5p-16", "--", "--gin_file=x")
    assert done.code == 0, done
    assert "RESOURCE_EXHAUSTED: Quota limit" in done.err and "promot is FAILED: " in done.err
    assert "(3 of 10)" in done.err and done.err.count(PAID) >= 2 and "promot run" in done.out


def test_it_gives_up(cloud):
    cloud.change("now['outcomes'] = ['quota'] * 4")
    done = cloud("resume", *AT, "v5p-16", "--retries=2", "--", "--gin_file=x")
    assert done.code == 75 and "promot: given up after 2 tries in a row" in done.err
    assert len(cloud.calls("create promot")) == 3
    cloud.change("now['outcomes'] = ['denied']")
    done = cloud("resume", *AT, "v5p-16", "--", "--gin_file=x")
    assert done.code == 1 and "PERMISSION_DENIED" in done.err and "again" not in done.err


def test_a_run_that_is_wrong_is_not_tried_again(cloud):
    cloud.promot("echo 'promot run: SEED = -1: set more'; exit 2")
    done = cloud("resume", *AT, "v5p-16", "--delete", "--", "--gin_file=x")
    assert done.code == 2 and "SEED = -1" in done.out and "failed:2 promot-w-0" in done.err
    assert not cloud.state()["requests"] and len(cloud.calls("create promot")) == 1


def test_a_request_that_is_being_deleted_is_waited_for(cloud):
    assert cloud("create", *AT, "v5p-16").code == 0
    cloud.change("now['requests']['promot']['states'] = ['DELETING']")
    creating = cloud.start("create", *AT, "v5p-16")
    wait_for(lambda: len(cloud.calls("queued-resources describe")) > 6)
    cloud.change("take_down('promot'); del now['requests']['promot']")
    assert finish(creating).code == 0 and len(cloud.calls("create promot")) == 2


def test_what_goes_on_without_its_script(cloud):
    """A lost connection, Ctrl-C, and the same command again."""
    cloud.promot(working(2))
    assert cloud("create", *AT, "v5p-16").code == 0
    run = cloud.start("run", *AT, "--gin_file=x")
    wait_for(lambda: len(begun(cloud)) == 2 and cloud.calls("follow"))
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    done = finish(run)
    assert done.code == 130 and "the run goes on: " in done.err and PAID in done.err, done
    run = cloud.start("run", *AT, "--gin_file=x")
    wait_for(lambda: len(cloud.calls("follow")) == 2)
    cloud.change("now['lost'] = 3")
    pids = (cloud.host("promot").parent / ".processes").read_text().split()
    os.killpg(int(pids[-1]), signal.SIGKILL)  # the connection that follows
    wait_for(lambda: len(cloud.calls("follow")) > 2)
    pid = int((cloud.host("promot", 1) / ".pod/process").read_text())
    for worker in range(2):  # as a whole machine that is shut down
        pid = int((cloud.host("promot", worker) / ".pod/process").read_text())
        os.kill(pid, signal.SIGTERM)
    done = finish(run)
    assert done.code == 75 and "the run was interrupted" in done.err, done
    assert len(begun(cloud)) == 2


def test_a_run_that_does_not_stop_is_killed(cloud):
    cloud.promot("trap '' TERM; touch $SIMULATION/begun; sleep 60 9<&- & wait; wait; wait")
    assert cloud("create", *AT, "v5p-8").code == 0
    run = cloud.start("run", *AT, "--gin_file=x")
    wait_for((cloud.simulation / "begun").exists)
    done = cloud("stop", *AT, "--wait=1")
    assert done.code == 0 and "not ended in 1 s\npromot-w-0: it is killed" in done.err, done
    assert finish(run).code == 3


def test_a_host_that_hangs_is_killed_when_the_others_are_gone(cloud):
    cloud.promot("((JAX_PROCESS_ID)) && exit 75; touch $SIMULATION/begun; sleep 60 9<&- & wait")
    assert cloud("create", *AT, "v5p-16").code == 0
    run = cloud.start("run", *AT, "--gin_file=x", LINGER="1", CHECK="0.5")
    wait_for((cloud.simulation / "begun").exists)
    process = int((cloud.host("promot") / ".pod/process").read_text())
    os.kill(process, signal.SIGSTOP)
    done = finish(run)
    assert done.code == 75 and "promot-w-0: it is killed" in done.err, done
    assert "interrupted promot-w-1" in done.err


def test_what_is_not_committed(cloud):
    (cloud.tree / "new.py").write_text("")
    done = cloud("create", *AT, "v5p-8")
    assert "what is not committed is not installed" in done.err
    assert not (cloud.host("promot") / "new.py").exists()
    shutil.rmtree(cloud.tree / ".git")
    done = cloud("create", *AT, "v5p-8", GIT_CEILING_DIRECTORIES=str(Path(cloud.tree).parent))
    assert done.code == 1 and "is in no git repository" in done.err
