"""A checkpoint of another system into a work directory that everything here starts from.

Names and shapes are compared before anything is read. Then arrays go one after the other from
their file to the devices that keep them, so the host never holds more than one of them whole
beside what it keeps.
"""

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from rich.table import Table

from promot_jax.console import say, show
from promot_jax.convert import huggingface, kept, peft, peft_lora
from promot_jax.convert.detect import open_source
from promot_jax.convert.source import (
    Source,
    Tensor,
    check_finite,
    first_few,
)
from promot_jax.errors import UserError
from promot_jax.models import Config, Prompt, Variables
from promot_jax.paths import absolute, as_path, expand, remove_tree
from promot_jax.training import Bar, Checkpoints, begin, make_mesh
from promot_jax.training.checkpoints import check_directory
from promot_jax.training.description import RUN, Description
from promot_jax.training.variables import ADDED, Layout, load, reference, stage_directory
from promot_jax.vocabularies import FILES, Vocabulary

STAGE, IMPORTED = "1-import", "# imported from "
SPREAD = {"fsdp": -1}  # every device keeps its part
PROMPT_NAME = "prompt"


def import_checkpoint(
    path: str,
    workdir: str,
    vocabulary: str | None = None,
    extra_ids: int = 100,
    dtype: str | None = None,
    prompt_name: str = PROMPT_NAME,
    activation: str | None = None,
) -> Path:
    """Makes a work directory of a model's checkpoint; see `open_source` for the kinds.

    Args:
      path: the checkpoint.
      workdir: the work directory; it must not exist, or be empty.
      vocabulary: path of a SentencePiece model (or gs://), or "byte"; None: the checkpoint's own.
      extra_ids: sentinels to put behind the pieces of `vocabulary`.
      dtype: of the parameters, "float32" or "bfloat16"; None: the checkpoint's own.
      prompt_name: what a prompt that lies with the model is called.
      activation: of the MLP, for T5X, whose checkpoints do not say; None: the published family's.

    Returns:
      The work directory.

    Raises:
      UserError: an unreadable checkpoint, one that does not fit its own settings or holds a number
        that is not finite, no vocabulary, or a work directory that holds something.
    """
    source = open_source(path, prompt_name)
    description, files = describe(path, source, vocabulary, extra_ids, dtype, activation)
    layout = Layout(description.module(), make_mesh(SPREAD))
    compare(path, source, layout.abstract())
    with _claimed(workdir) as root:
        variables = stream(source, layout)
        _say(source.tensors)
        _save(root, path, source, description, variables, {}, files)
    return root


def load_checkpoint(path: str, mesh: Mesh) -> tuple[Description, dict[str, bytes], Variables]:
    """A model of Transformers with our export's prompts, as it lies: without a work directory.

    Returns:
      What a work directory would say of it, its vocabulary's files, and its variables on the
      mesh.

    Raises:
      UserError: as `import_checkpoint`.
    """
    source = open_source(path)
    description, files = describe(path, source)
    layout = Layout(description.module(), mesh)
    compare(path, source, layout.abstract())
    return description, files, stream(source, layout)


def describe(
    path: str,
    source: Source,
    vocabulary: str | None = None,
    extra_ids: int = 100,
    dtype: str | None = None,
    activation: str | None = None,
) -> tuple[Description, dict[str, bytes]]:
    """What a work directory of a checkpoint says of it, and its vocabulary's files."""
    if source.config is None:
        raise UserError(
            f"{path!r} holds an adapter and no model: give --base, the work directory of its model"
        )
    config = dataclasses.replace(source.config, param_dtype=dtype or source.config.param_dtype)
    if activation is not None:
        if source.kind != "t5x":
            raise UserError(f"--activation: {path!r} says it itself: leave the option out")
        activations = (activation, *config.mlp_activations[1:])
        config = dataclasses.replace(config, mlp_activations=activations)
    read = _vocabulary(path, source, vocabulary, extra_ids)
    prompts = [
        Prompt(name.removeprefix("prompt/"), tensor.shape[0])
        for name, tensor in source.tensors.items()
        if name.startswith("prompt/")
    ]
    description = Description(
        method="import",
        model=config,
        prompts=tuple((prompt.name, prompt.length) for prompt in prompts),
        stages=(STAGE,),
        targets=(),
        modules=(),
        base=None,
        seed=0,
        vocabulary=read.settings(),
    )
    return description, read.files()


def import_adapter(path: str, workdir: str, base: str, name: str | None = None) -> Path:
    """Makes a work directory of a prompt, or a LoRA, and the model it belongs to.

    Its checkpoint holds the base's prompts and what is imported, and refers to the base for the
    rest.

    Args:
      path: a PEFT adapter, or a `.npy` file of google-research/prompt-tuning.
      workdir: the work directory; it must not exist, or be empty.
      base: work directory (or stage directory) of the model.
      name: what a prompt is called; None: "prompt".

    Raises:
      UserError: an unreadable or misshapen adapter, a name that the base uses, or no such base.
    """
    called = PROMPT_NAME if name is None else name
    source = open_source(path, called)
    home, _ = stage_directory(base, "--base")
    theirs = Description.read(home)
    peft.check_task_type(path, source, theirs.model)
    model, prompts = theirs.model, theirs.prompts
    if source.family == peft_lora.FAMILY:
        model, source = _with_lora(path, source, base, theirs, name)
    else:
        prompts = (*prompts, _new_prompt(path, source, base, theirs, called))
    description = Description(
        method="import",
        model=model,
        prompts=prompts,
        stages=(STAGE,),
        targets=(),
        modules=theirs.modules,
        base=absolute(base),
        seed=theirs.seed,
        vocabulary=theirs.vocabulary,
    )
    layout = Layout(description.module(), make_mesh(SPREAD))
    before = Layout(theirs.module(), layout.mesh).with_scan(model.scan_layers).abstract()
    compare(path, source, {p: x for p, x in layout.abstract().items() if p not in before})
    with _claimed(workdir) as root:
        variables = load(base, layout)
        frozen = {path: x for path, x in variables.items() if not path.startswith(ADDED)}
        own = {path: x for path, x in variables.items() if path not in frozen}
        own |= stream(source, layout)
        kept.inherit(root, base)
        _save(root, path, source, description, own, frozen, theirs.vocabulary_files(home))
    return root


def _new_prompt(
    path: str, source: Source, base: str, theirs: Description, name: str
) -> tuple[str, int]:
    """Name and length of the prompt in a source, which is one of the base's model."""
    if name in dict(theirs.prompts):
        raise UserError(f"--prompt_name={name}: {base!r} has a prompt of this name: give another")
    prompt = f"prompt/{name}"
    if set(source.tensors) != {prompt}:
        raise UserError(f"{path!r} is no adapter: import it without --base")
    length, width = source.tensors[prompt].shape
    if width != theirs.model.emb_dim:
        raise UserError(
            f"{path!r} holds vectors of {width} numbers, but the model of --base={base} has"
            f" {theirs.model.emb_dim} (token_dim): give the base that the prompt was trained with"
        )
    added = Prompt(name, length)
    return added.name, added.length


def _with_lora(
    path: str, source: Source, base: str, theirs: Description, name: str | None
) -> tuple[Config, Source]:
    """The base's model with the LoRA in a source, and the source by the model's paths."""
    if name is not None:
        raise UserError(f"--prompt_name={name}: {path!r} is LoRA, which has no name: leave it out")
    if theirs.model.lora is not None:
        raise UserError(
            f"--base={base} has LoRA already: merge that first, by promot export --merge and import"
        )
    lora, source = peft_lora.onto(path, source, theirs.model, huggingface.names(theirs.model))
    return dataclasses.replace(theirs.model, scan_layers=False, lora=lora), source


def _vocabulary(path: str, source: Source, given: str | None, extra_ids: int) -> Vocabulary:
    rows = source.config.vocab_size
    if given is not None and (lost := getattr(source.vocabulary, "added_tokens", ())):
        texts = first_few([repr(token.content) for token in lost], ", ")
        say(f"--vocabulary={given} takes the place of the source's own, which has added {texts}")
    if given is not None:
        return huggingface.KINDS[source.config.kind].given_vocabulary(given, rows, extra_ids)
    if source.vocabulary is None:
        raise UserError(
            f"{path!r} has no vocabulary with it: give --vocabulary, the path of its"
            f" {huggingface.KINDS[source.config.kind].VOCABULARY}, or --vocabulary=byte"
        )
    return source.vocabulary


def compare(path: str, source: Source, target: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Raises UserError that names tensors missing, surplus or misshapen, by both names."""
    problems = []
    for ours, leaf in target.items():
        if ours not in source.tensors:
            problems.append(f"{source.names.get(ours, ours)} ({ours}) is missing")
        elif (found := source.tensors[ours]).shape != leaf.shape:
            problems.append(f"{found.theirs} ({ours}) is {found.shape} instead of {leaf.shape}")
    for ours in set(source.tensors) - set(target):
        place = "" if ours.startswith("?") else f" ({ours})"
        problems.append(f"{source.tensors[ours].theirs}{place} has no place")
    if problems:
        raise UserError(
            f"{path!r} does not fit the settings it comes with, {len(problems)} tensors:"
            f" {first_few(sorted(problems))}"
        )


@contextlib.contextmanager
def _claimed(workdir: str) -> Iterator[Path]:
    """The work directory, made; what an import leaves that fails or was killed is removed."""
    if not workdir:
        raise UserError("WORKDIR = '': name a directory")
    check_directory(workdir, "WORKDIR")
    root = as_path(expand(workdir, "WORKDIR"), "WORKDIR")
    try:
        fresh = not root.exists()
        if not (fresh or (root.is_dir() and _is_unfinished(root))):
            raise UserError(
                f"WORKDIR = {workdir!r} exists and is not empty: give another directory"
            )
        remove_tree(root / STAGE, ignore_errors=True)
        (root / STAGE).mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"WORKDIR = {workdir!r} cannot be written ({error.strerror}): choose another"
        ) from error
    try:
        yield root
    except BaseException:
        remove_tree(root if fresh else root / STAGE, ignore_errors=True)
        raise


def _is_unfinished(root: Path) -> bool:
    """Whether a directory holds nothing, or only what an import leaves that was killed."""
    marker = root / "config.gin"
    names = {path.name for path in root.iterdir()} - {STAGE, marker.name, *FILES, *kept.NAMES}
    stage = {path.name for path in (root / STAGE).glob("*")}
    about = marker.read_text(encoding="utf-8", errors="replace") if marker.exists() else ""
    ours = not about or about.startswith(IMPORTED)
    return not names - {f".{RUN}.tmp"} and not stage - {"checkpoints"} and ours


def stream(source: Source, layout: Layout) -> Variables:
    """Reads all tensors of a source, one at a time, each to the devices that keep it.

    Says how fast that goes.
    """
    target, variables = layout.abstract(), {}
    bar = Bar("import", 0, len(source.tensors), max(1, len(source.tensors) // 4))
    start, size = time.perf_counter(), 0
    for path, tensor in source.tensors.items():
        variables[path] = _place(tensor, target[path])
        size += variables[path].nbytes
        rate = size / 1e6 / (time.perf_counter() - start)
        bar.update(len(variables), f"{size / 1e6:.0f} MB, {rate:.0f} MB/s")
    bar.close()
    return variables


def _place(tensor: Tensor, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    with np.errstate(over="ignore"):  # what does not fit is named next
        array = check_finite(tensor.theirs, tensor.read().astype(leaf.dtype, copy=False))
    part = lambda index: np.ascontiguousarray(array[index])  # noqa: E731
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, part).block_until_ready()


def _say(tensors: Mapping[str, Tensor]) -> None:
    """Prints what became of what; the layers of a stack are one row."""
    rows: dict[tuple, int] = {}
    for path, tensor in tensors.items():
        ours = re.sub(r"layers_\d+", "layers_*", path)
        theirs = re.sub(r"(block\.|blk\.|layers\.|layers_|, )\d+", r"\1*", tensor.theirs)
        row = (theirs, ours, "x".join(map(str, tensor.shape)), tensor.dtype)
        rows[row] = rows.get(row, 0) + 1
    table = Table("theirs", "ours", "shape", "type", "tensors", box=None)
    for row, count in rows.items():
        table.add_row(*row, str(count))
    show(table, least=160)


def _save(
    root: Path,
    path: str,
    source: Source,
    description: Description,
    variables: Variables,
    frozen: Variables,
    vocabulary: Mapping[str, bytes],
) -> None:
    """The checkpoint first: a directory with run.json is one that can be loaded."""
    about: dict[str, Any] = {"kind": source.kind, "family": source.family, "path": path}
    note = {
        "seconds": 0.0,
        "reference": reference(description.seed, frozen),
        "source": about | dict(source.about),
    }
    largest = max(x.nbytes for x in variables.values())
    checkpoints = Checkpoints(root / STAGE / "checkpoints", writing_gb=2e-9 * largest)
    mesh = make_mesh(SPREAD)
    checkpoints.save(begin(mesh, description.seed), variables, note, None)
    checkpoints.close()
    config = f"{IMPORTED}{path} ({source.kind}, {source.family}); see run.json\n"
    keeps, files = source.kept, source.files
    if files and source.vocabulary is not None:
        keeps, files = kept.of_vocabulary(keeps, files, source.vocabulary)
    kept.write(root, keeps, files)
    description.write(root, config, vocabulary)
