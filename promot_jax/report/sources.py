"""Where the rows of a page come from: results.json, and what is known beside it.

A run with a base is scored before its first update. Without a prompt that is the model before
tuning, the *base*, which a page of several runs has from a run of its own. And `promot eval` leaves
work directories below the one whose checkpoint it scored: what they add (other tasks, other numbers
of shots) belongs to that checkpoint, if it is still the same.
"""

import contextlib
import operator
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promot_jax.errors import UserError
from promot_jax.files import read_json, unseal
from promot_jax.paths import check_name
from promot_jax.report.rows import BASE, RESULTS, TARGET, parse_rows, read_rows
from promot_jax.report.text import one_line

Raw = Mapping[str, Any]
RUN = "run.json"
ROWS = "generated.jsonl"  # of a stage that generates
# What `promot eval` writes into its settings; gin breaks a long value off its name.
CHECKPOINT = re.compile(
    r"^CHECKPOINT = (?:\\\n\s*)?['\"](?P<stage>.+)/(?P<step>\d+) of (?P<written>\d+)['\"]$", re.M
)


@dataclass
class Source:
    """The rows of a page.

    Attributes:
      rows: as in results.json.
      remarks: where they come from.
      notes: what was left out, and why.
      left_out: folders that hold it.
    """

    rows: list[Raw]
    remarks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)


def gather(root: Path) -> Source:
    """The rows of a work directory.

    Raises: UserError if there are none, or what is there is malformed.
    """
    if os.path.exists(root) and not os.path.isdir(root):  # never in a bucket
        raise UserError(f"{str(root)!r} is no directory: give the work directory of a run")
    source, about = Source([]), _about(root)
    with contextlib.suppress(FileNotFoundError):
        source.rows = read_rows(root)
        parse_rows(source.rows)  # what is wrong in them is named before anything is made of them
    if about:
        _add_base(source, root, about)
        for folder in _evaluations(root, about):
            _add_evaluation(source, root, folder, about)
    if not source.rows:
        raise UserError(_nothing(root, source.notes))
    return source


def _nothing(root: Path, notes: Sequence[str]) -> str:
    if notes:
        return f"no results to report in {str(root)!r}: {notes[0]}"
    here = root.absolute()
    if here.is_dir() and re.match(r"\d+-", here.name) and (here.parent / RUN).exists():
        return f"{str(root)!r} is a stage of {str(here.parent)!r}: give that"
    return (
        f"no results to report: {root / RESULTS} does not exist; give the work directory of a run"
        " that has evaluated at least once (the value of WORKDIR in 'promot run')"
    )


def _about(root: Path) -> dict[str, Any] | None:
    """What run.json says, None where there is none: several runs, or rows of other makers.

    Raises: UserError if it is damaged.
    """
    try:
        about = read_json(root / RUN)
        about = unseal(about) if "check" in about else about
    except FileNotFoundError:
        return None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{root / RUN} is damaged ({error}): restore it") from error
    for name in ("stages", "targets"):
        names = about.get(name)
        if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise UserError(f"{root / RUN} is damaged ({name} is no list of names): restore it")
    for stage in about["stages"]:
        check_name(stage, f"{root / RUN}: the stage directory")
    return about


def _add_base(source: Source, root: Path, about: Mapping[str, Any]) -> None:
    """The base's rows: those of step 0 without a prompt, where training began there.

    A stage that only generates changes nothing.
    """
    rows = source.rows
    first = [name for name in about["stages"] if not (root / name / ROWS).exists()][:1]
    before = [r for r in rows if [r.get("stage")] == first and not r.get("step")]
    who = {"method": BASE, "stage": "", "step": 0, "selected": True}
    who |= {"seed": None, "learning_rate": None}
    found = [_filled(row) | who for row in before if not row.get("prompt")]
    trained = len(before) < len(rows)
    if about.get("base") and found and trained and BASE not in {r["method"] for r in rows}:
        source.rows = [*found, *rows]
        source.remarks.append(
            f"{BASE}: the model before tuning, as scored without prompt at step 0 of {first[0]}."
        )


def _evaluations(root: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """Work directories of `promot eval` on this one or on its last stage, in order of numbers.

    Their names are looked at, not matched by a glob: a directory's name may have brackets.
    """
    for place in (root, *(root / name for name in about["stages"][-1:])):
        numbered = {}
        with contextlib.suppress(OSError):
            for folder in place.iterdir():
                if match := re.fullmatch(r"evaluation(?:-(\d+))?", folder.name):
                    numbered[int(match[1] or 1)] = folder
        yield from (numbered[k] for k in sorted(numbered))


def _add_evaluation(source: Source, root: Path, folder: Path, about: Mapping[str, Any]) -> None:
    """The rows of one evaluation that say something new of the checkpoint that is shown."""
    name = one_line(folder.relative_to(root).as_posix())
    try:
        rows, asked = read_rows(folder), _about(folder) or about
        parse_rows(rows)
        stage, step = _checkpoint(root, folder, about, source.rows)
    except FileNotFoundError:
        return  # it has not come to its end
    except (UserError, LookupError) as error:
        source.left_out.add(name)
        source.notes.append(f"Left out, scores of {name}: {error}.")
        return
    added, other = _new(source.rows, rows, stage, step, about["targets"], asked["targets"])
    source.rows = [*source.rows, *added]
    chosen = added and not added[0]["selected"] and any(r.get("selected") for r in source.rows)
    if added:
        where = ", which is not the selected checkpoint: they are in curves alone" if chosen else ""
        source.remarks.append(f"Scores of {name} are of {stage}/{step}{where}.")
    if other:
        source.notes.append(
            f"{other} of {len(rows)} scores of {name} are not here: the same tasks with as many"
            f" shots have other scores already, or LoRA another scale; see {name}/report.html."
        )


def _new(
    known: Sequence[Raw], rows: Sequence[Raw], stage: str, step: int,
    goals: Sequence[str], asked: Sequence[str],
) -> tuple[list[Raw], int]:  # fmt: skip
    """The rows of an evaluation that are not known, as the run's own; how many are known otherwise,
    or were asked with another scale of LoRA than the run's of their kind.

    `goals` and `asked`: the targets of the run and of the evaluation.
    """
    key = operator.itemgetter("task", "shots", "prompt", "metric")
    rows, known = ([_filled(row) for row in each] for each in (rows, known))
    ours = [row for row in known if row["stage"] == stage]
    scales = {row["group"] == TARGET: row["lora"] for row in ours}
    alike = lambda row: scales.get(row["task"] in (goals or asked), row["lora"]) == row["lora"]  # noqa: E731
    odd = sum(not alike(row) for row in rows)
    rows = [row for row in rows if alike(row)]
    same = [row for row in ours if row["step"] == step]
    have = {key(row): row["value"] for row in same}
    who = {name: ours[0][name] for name in ("method", "seed", "learning_rate")} if ours else {}
    selected = same[0]["selected"] if same else not any(row["selected"] for row in ours)
    who |= {"stage": stage, "step": step, "selected": selected}
    who |= {} if sorted(goals or asked) == sorted(asked) else {"format_share": None}
    added = [
        row | {"group": _group(row, goals or asked)} | who for row in rows if key(row) not in have
    ]
    return added, odd + sum(have.get(key(row), row["value"]) != row["value"] for row in rows)


def _filled(row: Raw) -> dict[str, Any]:
    """A row that is about to be changed, checked before, with all that may be absent."""
    absent = dict.fromkeys(("seed", "learning_rate", "metric", "lora"))
    absent |= {"stage": "", "step": 0, "shots": 0, "prompt": False, "selected": False}
    return absent | {name: value for name, value in row.items() if name != "check"}


def _group(row: Raw, goals: Sequence[str]) -> str:
    """The group of a task: what another evaluation aims at is no target of this run."""
    if row["task"] in goals:
        return TARGET
    return "other" if row["group"] == TARGET else row["group"]


def _checkpoint(
    root: Path, folder: Path, about: Mapping[str, Any], rows: Sequence[Raw]
) -> tuple[str, int]:
    """The stage and step of the checkpoint that an evaluation is of.

    Raises:
      LookupError: it does not say so, it is of a stage that is not shown, or of a checkpoint that
        has been replaced since.
    """
    try:
        found = CHECKPOINT.search((folder / "config.gin").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found is None or found["stage"] not in about["stages"]:
        raise LookupError("it does not say of which checkpoint of this run they are")
    stage, step = found["stage"], int(found["step"])
    scored = {row.get("stage") for row in rows}
    if (last := [each for each in about["stages"] if each in scored][-1:]) not in ([], [stage]):
        raise LookupError(f"they are of {stage}/{step}, and the table is of {last[0]}")
    note = root / stage / "checkpoints" / str(step) / "note" / "metadata"
    with contextlib.suppress(FileNotFoundError):  # a checkpoint may be gone, or left elsewhere
        if read_json(note).get("written") != int(found["written"]):
            raise LookupError(f"they are of an earlier {stage}/{step} than the one that is there")
    return stage, step
