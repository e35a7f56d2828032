"""What a checkpoint is, of this project or another, without reading its weights."""

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from rich.table import Table

from promot_jax.added_tokens import from_json
from promot_jax.convert.detect import open_source
from promot_jax.convert.source import family_of
from promot_jax.models.config import Config
from promot_jax.paths import as_path, resolve
from promot_jax.training import Checkpoints
from promot_jax.training.bases import place
from promot_jax.training.description import Description
from promot_jax.training.variables import stage_directory

Facts = dict[str, Any]
NOTHING = (None, [], (), {})


def inspect(path: str) -> Facts:
    """Says what lies at a path, in values that JSON can hold.

    Args:
      path: a checkpoint of another system, or a work directory of this one, a stage in it
        (`WORKDIR/1-prompt`) or one checkpoint (`WORKDIR/1-prompt/checkpoints/100`).

    Raises:
      UserError: there is no checkpoint, or it is damaged.
    """
    if own := _own(path):
        return own
    source = open_source(path)
    return (
        {"path": path, "kind": source.kind, "family": source.family}
        | _sizes({p: (x.shape, x.dtype) for p, x in source.tensors.items()})
        | dict(source.about)
        | ({"vocabulary": source.vocabulary.settings()} if source.vocabulary else {})
        | _settings(source.config)
    )


def table(facts: Mapping[str, Any]) -> Table:
    """The facts for people: those that are there, one a row."""
    rows = Table(show_header=False, box=None)
    for name, value in facts.items():
        if value not in NOTHING:
            rows.add_row(name.replace("_", " "), _said(name, value))
    return rows


def _said(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        there = {key: part for key, part in value.items() if part not in NOTHING}
        return ", ".join(f"{key} {_said(key, part)}" for key, part in there.items())
    if isinstance(value, list | tuple):
        return ", ".join(_said("", part) for part in value)
    if name.endswith("bytes"):
        return f"{value / 2**20:,.1f} MiB"
    return f"{value:,}" if type(value) is int and name != "step" else str(value)


def _own(path: str) -> Facts | None:
    """The facts of a checkpoint of this project; None where the path is of another."""
    given, step = as_path(resolve(path)), None
    if given.name.isdecimal() and given.parent.name == "checkpoints":
        given, step = given.parents[1], int(given.name)
    if not any((directory / "run.json").exists() for directory in (given, given.parent)):
        return None
    workdir, stage = stage_directory(str(given), "PATH")
    about = Description.read(workdir)
    with contextlib.closing(Checkpoints(stage / "checkpoints", read_only=True)) as checkpoints:
        step = checkpoints.best() if step is None else step
        shapes, note = checkpoints.shapes(step), checkpoints.note(step)
        score = checkpoints.score(step)
    scanned = any("/layers/" in name for name in shapes)
    return (
        {"path": path, "kind": "promot", "family": family_of(about.model, about.vocabulary)}
        | _sizes({p: (x.shape, jnp.dtype(x.dtype).name) for p, x in shapes.items()})
        | {
            "layout": "scanned" if scanned else "unrolled",
            "step": step,
            "stage": stage.name,
            "score": score,
            "coefficient": note.get("coefficient"),
            "rest_from": _rest(note["reference"], workdir, about),
            "method": about.method,
            "trained_on": list(about.targets),
            "base": about.base,
            "imported_from": note.get("source"),
            "stages": list(about.stages),
            "vocabulary": about.vocabulary | _added(about),
        }
        | _settings(about.model)
    )


def _added(about: Description) -> Facts:
    """The tokens that somebody added to the tokenizer, by their text; nothing where none are."""
    tokens = from_json(about.vocabulary.get("added_tokens", ()))
    return {"added_tokens": {token.content: token.id for token in tokens}} if tokens else {}


def _rest(reference: Mapping[str, Any], workdir: str, about: Description) -> str | None:
    """Where the variables are that a checkpoint only refers to."""
    if reference["digest"] is None:
        return None
    if about.base is None:
        return f"random weights of seed {reference['seed']}"
    return place(workdir, about)


def _sizes(arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> Facts:
    """Numbers and bytes of arrays given as path -> (shape, dtype), and the prompts among them."""
    count = {path: math.prod(shape) for path, (shape, _) in arrays.items()}
    prompts = {
        p.removeprefix("prompt/"): s[0] for p, (s, _) in arrays.items() if p.startswith("prompt/")
    }
    return {
        "parameters": sum(count.values()),
        "arrays": len(arrays),
        "bytes": sum(n * jnp.dtype(arrays[path][1]).itemsize for path, n in count.items()),
        "dtypes": dict(Counter(dtype for _, dtype in arrays.values())),
        "prompts": prompts,
    }


def _settings(config: Config | None) -> Facts:
    if config is None:
        return {}
    return {"kind_of_model": config.kind, "model": dataclasses.asdict(config)}
