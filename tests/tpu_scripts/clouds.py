"""A place where tpu_scripts/ can be tried: a repository with them, and a gcloud that simulates."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE = 300  # seconds, far more than anything here takes
# A host's own programs: `make install` and `python3 -m uv venv` of the tree make a .venv of stubs.
HOST_BIN = {
    "hostname": 'basename "$HOME"',
    "sudo": 'exec "$@"',
    "python3": "mkdir -p .venv/bin && printf '#!/bin/sh\\n' >.venv/bin/python"
    " && chmod +x .venv/bin/python",
    "make": 'cp "$SIMULATION/promot" .venv/bin/promot',
}
PROMOT = 'echo "promot $*"'


class Done(NamedTuple):
    """What a script left."""

    code: int
    out: str
    err: str


class Cloud:
    """A project with nothing in it yet; `folder` becomes a repository with the scripts."""

    def __init__(self, folder: Path, promot: str = PROMOT):
        self.tree, self.simulation = folder / "tree", folder / "simulation"
        self.simulation.mkdir(parents=True)
        (self.simulation / "hosts").mkdir()
        run = f'exec {sys.executable} -S {HERE / "simulated_gcloud.py"} "$@"'
        self._program("bin/gcloud", run)
        for name, text in HOST_BIN.items():
            self._program(f"host_bin/{name}", text)
        self.promot(promot)
        shutil.copytree(ROOT / "tpu_scripts", self.tree / "tpu_scripts")
        self.git("init", "--quiet")
        self.commit()

    @property
    def own(self) -> dict[str, str]:
        """The environment, in which gcloud is nothing but the simulation."""
        path = f"{self.simulation / 'bin'}:{os.environ['PATH']}"
        assert Path(shutil.which("gcloud", path=path)).parent == self.simulation / "bin"
        return {"PATH": path, "SIMULATION": str(self.simulation), "POLL": "0.1"}

    def promot(self, text: str) -> None:
        """What promot is, on the hosts that are made from now on."""
        self._program("promot", text)

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *arguments], cwd=self.tree, check=True)

    def commit(self) -> None:
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message=tree")

    def start(self, script: str, *arguments: str, **more: str) -> subprocess.Popen:
        """`more` is added to the environment."""
        return subprocess.Popen(
            [self.tree / "tpu_scripts" / f"{script}.sh", *arguments],
            cwd=self.tree.parent, env=os.environ | more | self.own, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def __call__(self, script: str, *arguments: str, **more: str) -> Done:
        return finish(self.start(script, *arguments, **more))

    def state(self) -> dict:
        path = self.simulation / "state.json"
        return json.loads(path.read_text()) if path.exists() else {"requests": {}, "calls": []}

    def calls(self, verb: str) -> list[str]:
        return [call for call in self.state()["calls"] if verb in call]

    def host(self, node: str, worker: int = 0) -> Path:
        return self.simulation / "hosts" / f"{node}-w-{worker}" / "promot_jax"

    def change(self, code: str) -> None:
        """Does something to the simulation's state, `now`, as gcloud does."""
        program = (
            f"import sys; sys.path.insert(0, {str(HERE)!r}); from simulated_gcloud import *\n"
            f"with world() as now:\n    {code}\n"
        )
        subprocess.run([sys.executable, "-S", "-c", program], env=os.environ | self.own, check=True)

    def preempt(self, request: str, nodes: Sequence[str], state: str) -> None:
        """Takes slices away; the state of the request is then this one."""
        for node in nodes:
            self.change(
                f"it = now['requests'][{request!r}]; it['states'] = [{state!r}];"
                f" it['nodes'][{node!r}] = 'PREEMPTED'; take_down({node!r})"
            )

    def _program(self, name: str, text: str) -> None:
        path = self.simulation / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        path.chmod(0o755)


def finish(process: subprocess.Popen) -> Done:
    out, err = process.communicate(timeout=PATIENCE)
    return Done(process.returncode, out, err)


def wait_for(what, timeout: float = PATIENCE) -> None:
    """Returns once `what()` is true."""
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.05)
