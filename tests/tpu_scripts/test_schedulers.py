"""The files for SLURM and Kubernetes: their own tools read them, and they do what they say."""

import importlib.util
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from clouds import ROOT, wait_for

from promot_jax.cli.main import bindings, parser

SBATCH = ROOT / "tpu_scripts/slurm.sbatch"
JOBSET = ROOT / "tpu_scripts/jobset.yaml"


@pytest.fixture
def job(tmp_path):
    """Starts the batch script where `srun` is a shell script; says what became of it."""

    def start(srun: str, **more: str) -> subprocess.Popen:
        for name, text in {"srun": srun, "scontrol": 'echo "$*" >requeued'}.items():
            path = tmp_path / name
            path.write_text(f"#!/bin/bash\n{text}\n")
            path.chmod(0o755)
        path = f"{tmp_path}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "SLURM_JOB_ID": "17"} | more
        return subprocess.Popen(["bash", SBATCH, "--gin_file=a b"], cwd=tmp_path, env=environment)

    return start


@pytest.mark.parametrize(
    ("code", "restarts", "again"), [(0, 0, False), (2, 0, False), (75, 0, True), (75, 100, False)]
)
def test_a_job_of_slurm_goes_back_into_the_queue(job, tmp_path, code, restarts, again):
    started = job(f'printf "%s|" "$@" >given; exit {code}', SLURM_RESTART_COUNT=str(restarts))
    assert started.wait() == code
    given = "--wait=600|.venv/bin/promot|run|--multihost|--gin_file=a b|"
    assert (tmp_path / "given").read_text() == given
    assert (tmp_path / "requeued").exists() == again
    assert not again or (tmp_path / "requeued").read_text() == "requeue 17\n"


def test_a_signal_of_slurm_is_handed_on(job, tmp_path):
    started = job("trap 'sleep 0.2; exit 75' TERM; touch begun; sleep 60 >/dev/null & wait")
    wait_for((tmp_path / "begun").exists)
    started.send_signal(signal.SIGTERM)
    assert started.wait() == 75 and (tmp_path / "requeued").read_text() == "requeue 17\n"


def _arguments(command: list[str]) -> None:
    """Raises where promot does not know an argument."""
    assert Path(command[0]).name == "promot"
    args, rest = parser().parse_known_args(command[1:])
    assert args.multihost and all((ROOT / file).exists() for file in args.gin_file)
    bindings(args, rest)


def test_the_manifest():
    jobset = yaml.safe_load(JOBSET.read_text(encoding="utf-8"))
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2" and jobset["kind"] == "JobSet"
    [slices] = jobset["spec"]["replicatedJobs"]
    job = slices["template"]["spec"]
    [container] = job["template"]["spec"]["containers"]
    _arguments(container["command"])
    [rule] = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert job["parallelism"] == job["completions"] and jobset["spec"]["failurePolicy"]["rules"]
    header = JOBSET.read_text(encoding="utf-8").partition("apiVersion")[0]
    header = header.replace("\n#", "\n").replace("\\\n", "")
    xpk = shlex.split(header[header.index("xpk workload") :])
    [command] = [each.removeprefix("--command=") for each in xpk if each.startswith("--command=")]
    _arguments(shlex.split(command))


@pytest.mark.skipif(
    importlib.util.find_spec("kubernetes_validate") is None,
    reason="needs kubernetes-validate (the test extra has it)",
)
def test_the_schema_of_kubernetes_has_what_the_manifest_says():
    """The Jobs in it: JobSet itself is an extension."""
    import kubernetes_validate

    jobset = yaml.safe_load(JOBSET.read_text(encoding="utf-8"))
    for each in jobset["spec"]["replicatedJobs"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": each["name"]}}
        kubernetes_validate.validate(job | each["template"], "1.31", strict=True)
