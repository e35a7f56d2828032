"""README.md and docs/: every command and every program in them runs, in order, on tiny models.

`promot run` and `promot eval` get settings that make them short, the rest runs as it is written.
Of the benches the arguments are read, of make the targets; gcloud simulates slices.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import doc_files
import doc_pages
import pytest
from command_lines import SCRIPT, flags
from doc_pages import PAGES, ROOT
from safetensors.numpy import load_file

sys.path.append(str(ROOT / "tests/tpu_scripts"))
import clouds

from promot_jax.cli.main import bindings, parser
from promot_jax.run import LanguageModel

EVALUATION = {"BEAMS": 1, "EVAL_LIMIT": 4, "EVAL_BATCH_SIZE": 4, "MAX_OUTPUT_LENGTH": 8}
SHORT = EVALUATION | {
    "STEPS": 2, "PROMPT_STEPS": 2, "EVALUATE_EVERY": 2, "PROMPT_EVALUATE_EVERY": 2,
    "BATCH_SIZE": 8, "PROMPT_LENGTH": 4,
}  # fmt: skip
VERBS = {"run": SHORT, "eval": EVALUATION}
# The published sizes of a paper's run, as those of the model that is there.
PAPER = {
    "vocab_size": 896, "emb_dim": 32, "num_heads": 3, "head_dim": 8, "mlp_dim": 48,
    "num_encoder_layers": 2, "num_decoder_layers": 2,
}  # fmt: skip
PAPER_FLAGS = [
    *(f"--gin.models.T5Config.{name}={value}" for name, value in PAPER.items()),
    *flags(VOCABULARY_FILE=doc_files.LAB, DATA_DIR="path/to/data"),
]
FEW_SHOTS = flags(SHOTS=(1,), TARGET_SHOTS=(1,))  # of the paper's twelve tasks
TASK = """task: boolq
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["yes", "no"]
doc_to_target: answer
metric_list: [{{metric: acc}}]
"""
# What the pages name and is no setting or option of promot.
OTHERS = {
    *("CAUSAL_LM", "MIXTURE_OR_TASK_NAME", "--apply_chat_template", "--gin"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "TENSORSTORE_GCS_HTTP_URL", "PROMOT_REAL_MODELS"),
}
NEEDS = {"transformers": "peft", "promot_jax.run.harness": "lm_eval"}


class Parsed(Exception):
    """The arguments of a bench are right; the rest takes long."""


class Reader:
    """Runs a page in a folder."""

    def __init__(self, folder: Path, promot, environment):
        self.folder, self.promot, self.cloud = folder, promot, None
        path = f"{folder / 'bin'}:{SCRIPT.parent}:{os.environ['PATH']}"
        cache = {"HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
        self.environment = environment | cache | {"PATH": path, "PYTHONPATH": str(ROOT)}

    def run(self, page: str) -> list[str]:
        """Runs its blocks; returns what the Python ones print."""
        printed = []
        doc_files.make(self.folder, " ".join(self.local(b.text) for b in doc_pages.blocks(page)))
        for block in doc_pages.blocks(page):
            if block.language == "python":
                printed.append(self.python(block.text))
            elif block.language == "sh":
                for command in doc_pages.commands(block.text):
                    self.command(self.local(command))
        return printed

    def local(self, text: str) -> str:
        for far, near in doc_files.ELSEWHERE.items():
            text = text.replace(far, near)
        return text

    def python(self, code: str) -> str | None:
        """What a program prints; None where what it needs is not there."""
        if lacks(code):
            return None
        out = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out):
            exec(compile(code, "a page", "exec"), {"__name__": "__main__"})
        return out.getvalue()

    def command(self, command: str) -> None:
        first, *rest = shlex.split(command.partition("\n")[0])
        if first == "promot":  # plans are for what needs no libtpu
            rest = [re.sub("^--topology=.*", "--topology=h100:2", each) for each in rest]
            done = self.promot(shortened(rest), self.folder)
            assert done.code == 0, f"{command}\n{done.err}"
        elif first == "make":
            subprocess.run(["make", "-n", *rest], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        elif rest[:1] == ["-m"] and rest[1].startswith("bench."):
            parse_bench(rest[1], rest[2:])
        elif rest[:2] == ["-m", "promot_jax.run.harness"]:
            self.harness(command)
        elif first.startswith("JAX_"):
            self.host(command)
        elif first.startswith("tpu_scripts/"):
            self.gcloud(command)
        elif first in ("sbatch", "kubectl"):
            self.cluster(command)
        else:
            self.shell(command)

    def shell(self, command: str) -> None:
        how = {"cwd": self.folder, "env": self.environment, "text": True}
        done = subprocess.run(["sh", "-euc", command], capture_output=True, **how)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def host(self, command: str) -> None:
        """One of several hosts, which is the only one here."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        command = re.sub(r"ADDRESS=\S+", f"ADDRESS={address}", command)
        assert "JAX_NUM_PROCESSES=2" in command
        command = command.replace("PROCESSES=2", "PROCESSES=1")
        self.shell(shlex.join(["env", *shortened(shlex.split(command), "run")]))

    def harness(self, command: str) -> None:
        """On a task of this name with rows that are here."""
        if lacks(command):
            return
        rows = [{"question": f"Is {i} a number?", "answer": i % 2} for i in range(4)]
        file = self.folder / "boolq.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        own = self.folder / "own"
        own.mkdir(exist_ok=True)
        (own / "boolq.yaml").write_text(TASK.format(file=file), encoding="utf-8")
        self.shell(f"{command.replace('boolq', str(own / 'boolq.yaml'))}")

    def gcloud(self, command: str) -> None:
        """On slices that are simulated, and a promot that does nothing."""
        self.cloud = self.cloud or clouds.Cloud(self.folder / "cloud")
        script, *arguments = shlex.split(command)
        done = self.cloud(Path(script).stem, *arguments)
        assert done.code == 0, f"{command}\n{done}"

    def cluster(self, command: str) -> None:
        """Reads what a cluster would be given."""
        given = shlex.split(command)
        files = [each.removeprefix("--filename=") for each in given if "tpu_scripts/" in each]
        assert files and all((ROOT / each).exists() for each in files), command
        more = [each for each in given if each.startswith("--gin")]
        bindings(*parser().parse_known_args(["run", *more]))


def lacks(text: str) -> bool:
    """Whether it needs a package that is not there (make parity)."""
    needed = {package for name, package in NEEDS.items() if name in text}
    return not all(map(importlib.util.find_spec, needed))


def shortened(arguments: list[str], verb: str | None = None) -> list[str]:
    """A command line, with settings behind it that make it short."""
    more = flags(**VERBS.get(verb or arguments[0], {}))
    for name, settings in {"gin/runs/paper_": PAPER_FLAGS, "all_twelve": []}.items():
        if any(name in argument for argument in arguments):
            more += [*settings, *FEW_SHOTS]
    return [*arguments, *more]


def parse_bench(module: str, arguments: list[str]) -> None:
    """Reads the arguments of a bench, as it would."""
    real = argparse.ArgumentParser.parse_args

    def parse(self, args=None, namespace=None):
        real(self, args, namespace)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        patch.setattr(sys, "argv", [module, *arguments])
        package = importlib.util.find_spec(module).submodule_search_locations is not None
        importlib.import_module(f"{module}.__main__" if package else module).main()


def answers(path: Path) -> list[str]:
    return [json.loads(line)["output"] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("page", [name for name in PAGES if name != "models.md"])
def test_every_command_runs(page, promot, environment, tmp_path):
    Reader(tmp_path, promot, environment).run(page)


def test_there_and_back(promot, environment, tmp_path):
    """docs/models.md: what was exported and imported again gives the same answers."""
    decoder, t5 = Reader(tmp_path, promot, environment).run("models.md")
    ours = answers(tmp_path / "answers.jsonl")
    assert len(ours) == 2
    for file in ("served.jsonl", "again.jsonl"):
        assert answers(tmp_path / file) == ours
    assert answers(tmp_path / "t5_served.jsonl") == answers(tmp_path / "t5.jsonl")
    sources = ("HuggingFaceTB/SmolLM2-135M-Instruct", "google/flan-t5-small")
    for source, made in zip(sources, ("runs/nli_hf", "runs/flan_rte_hf"), strict=True):
        tuned, before = (load_file(tmp_path / x / "model.safetensors") for x in (made, source))
        assert set(tuned) == set(before)
        assert any((tuned[name] != before[name]).any() for name in tuned)
    again = LanguageModel(str(tmp_path / "runs/again_nli"), {"data": 1})
    assert again.prompts == ("target", "nli") and not again.vocabulary.chat
    assert LanguageModel(str(tmp_path / "runs/nli_chat"), {"data": 1}).vocabulary.chat
    if decoder is None or t5 is None:
        return  # without Transformers and PEFT
    for printed, file in ((decoder, "answers.jsonl"), (t5, "t5.jsonl")):
        theirs = [json.loads(line) for line in printed.splitlines()]
        found = [re.sub(r"<extra_id_\d+>", "", text) for text in answers(tmp_path / file)]
        # The spaces around sentinels that are left out differ.
        assert ["".join(text.split()) for text in theirs] == ["".join(x.split()) for x in found]
        assert any(text.split() for text in theirs)


@pytest.mark.parametrize("page", PAGES)
def test_what_looks_like_a_command_is_one(page):
    """So that none is left out above."""
    known = {"sh", "python", "jsonl"}
    for block in doc_pages.blocks(page):
        assert block.language in known, block
    for line in doc_pages.prose(page).splitlines():
        assert not re.match(r"\s*(promot|make|python|pip) ", line), line


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", doc_pages.read(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (PAGES[page].parent / path) if path else PAGES[page]
        assert target.exists() or any(target.parent.glob(target.name)), link
        assert not anchor or anchor in doc_pages.anchors(target.name), link


@pytest.mark.parametrize("page", PAGES)
def test_settings_and_options_exist(page):
    """Those that the text names, as `NAME`, `NAME = value` and `--name`."""
    named = re.findall(r"`([^`\n]+)`", doc_pages.prose(page))
    macros = {
        name for text in named for name in re.findall(r"^([A-Z]+(?:_[A-Z]+)*)(?: = |$)", text)
    }
    gin = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "gin").rglob("*.gin"))
    unknown = {
        name for name in macros if not re.search(rf"^{name} = |%{name}\b", gin, re.MULTILINE)
    }
    assert not unknown - OTHERS
    choices = next(
        a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)
    ).choices
    known = {option for verb in choices.values() for option in verb._option_string_actions}
    for script in (ROOT / "tpu_scripts").glob("*.sh"):
        known |= set(re.findall(r"--[a-z-]+", script.read_text(encoding="utf-8")))
    options = {name for text in named for name in re.findall(r"(?<!\S)(--[a-z_-]+)", text)}
    assert not options - known - OTHERS
    modules = [name for text in named for name in re.findall(r"python -m (\S+)", text)]
    assert all(map(importlib.util.find_spec, modules)), modules
