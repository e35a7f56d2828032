"""LoRA as Hugging Face's PEFT keeps it: names, orientation and settings, in both directions.

A module of Transformers' model, `model.layers.0.mlp.down_proj`, has two matrices:

    base_model.model.<module>.lora_A.weight [rank, in]     our A, transposed
    base_model.model.<module>.lora_B.weight [out, rank]    our B, transposed

and its output is x W^T + (lora_alpha / r) (x A^T) B^T. With `use_rslora` the factor is
lora_alpha / sqrt(r) (Kalajdzievski 2023, arXiv:2312.03732), which here is another alpha.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from promot_jax.convert import decoders
from promot_jax.convert.source import Source, Tensor, first_few
from promot_jax.errors import UserError, near
from promot_jax.models import Lora, Variables
from promot_jax.models.config import Config
from promot_jax.models.lora import COLLECTION, KERNEL, paths_of
from promot_jax.models.names import LAYER, matches

FAMILY = "lora"
NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
# What adapter_config.json may say of how the adapter was trained, and what is read. All else, such
# as use_dora, rank_pattern or modules_to_save, changes what is computed and must be off.
KNOWN = {
    *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path"),
    *("revision", "inference_mode", "r", "lora_alpha", "use_rslora", "lora_dropout"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("megatron_core", "qalora_group_size", "eva_config", "runtime_config", "ensure_weight_tying"),
}
OFF = (None, False, "none", [], {})
# Of these A and B may begin as they like; by others PEFT changes the base's weights, too.
INITS = (None, True, False, "gaussian", "orthogonal", "eva")


def read(
    path: str, values: Mapping[str, Any], stored: Mapping[str, Tensor], about: Mapping[str, Any]
) -> Source:
    """The adapter, its arrays by their modules: `lora/<module>/a`; `onto` gives them our paths.

    Raises:
      UserError: settings that there are not here, or arrays of another form.
    """
    rank, alpha = values.get("r"), values.get("lora_alpha")
    for name, value in values.items():
        harmless = name in KNOWN or any(value is off or value == off for off in OFF)
        if name == "init_lora_weights":
            harmless = value in INITS
        if not harmless:
            raise UserError(
                f"{path!r}: adapter_config.json has {name} = {value!r:.80}, which there is not"
                " here: merge the adapter by PEFT's merge_and_unload(), and import the model"
            )
    if type(rank) is not int or rank < 1:
        raise UserError(f"{path!r}: adapter_config.json has r = {rank!r:.80}: set a whole number")
    if type(alpha) not in (int, float) or not 0 < alpha < 1e6:
        raise UserError(
            f"{path!r}: adapter_config.json has lora_alpha = {alpha!r:.80}: set a number above 0"
        )
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        match = NAME.fullmatch(name)
        axis = 0 if match and match[2] == "A" else 1
        if match is None or len(tensor.shape) != 2 or tensor.shape[axis] != rank:
            raise UserError(
                f"{path!r} holds {name} {tensor.shape}, not lora_A [{rank}, in] and lora_B"
                f" [out, {rank}] of modules of a model: save the adapter again"
            )
        ours = f"{COLLECTION}{match[1]}/{match[2].lower()}"
        tensors[ours] = Tensor(name, tensor.shape[::-1], tensor.dtype, lambda t=tensor: t.read().T)
    alpha = alpha * math.sqrt(rank) if values.get("use_rslora") else float(alpha)
    return Source("peft", FAMILY, None, tensors, about={**about, "rank": rank, "alpha": alpha})


def onto(
    path: str, source: Source, config: Config, names: Mapping[str, str]
) -> tuple[Lora, Source]:
    """An adapter as the LoRA of a model, by the model's paths.

    Args:
      path: for messages.
      source: as `read` made it.
      config: the model's.
      names: our path -> Transformers' name, for every parameter of the model.

    Raises:
      UserError: it is of matrices that are not the model's, or has no room for.
    """
    modules = _modules(names)
    tensors, unknown = {}, []
    for name, tensor in source.tensors.items():
        module, _, which = name.removeprefix(COLLECTION).rpartition("/")
        kernel = modules.get(_plain(module, modules, config))
        if kernel is None:
            unknown.append(module)
        else:
            tensors[paths_of(kernel)["ab".index(which)]] = tensor
    if unknown := sorted(set(unknown)):
        raise UserError(
            f"{path!r} has LoRA of {first_few(unknown, ', ')}{near(unknown[0], modules)}, and the"
            " model has no such matrix in its layers: give the base that it was trained with"
        )
    found = [kernel for kernel in modules.values() if set(paths_of(kernel)) & set(tensors)]
    targets = _patterns(found, list(modules.values()))
    made = Lora(source.about["rank"], source.about["alpha"], targets)
    return made, dataclasses.replace(source, tensors=tensors)


def _modules(names: Mapping[str, str]) -> dict[str, str]:
    """Transformers' module -> our path, for the kernels of layers."""
    return {
        theirs.removesuffix(".weight"): ours
        for ours, theirs in names.items()
        if LAYER.search(ours) and ours.endswith(KERNEL)
    }


def _plain(module: str, modules: Mapping[str, str], config: Config) -> str:
    """A module's name in the text model with its head."""
    if config.kind == "decoder_only" and module not in modules:
        module = decoders.text_name(module)
        return module if module.startswith("model.") else f"model.{module}"
    return module


def _patterns(found: Sequence[str], every: Sequence[str]) -> tuple[str, ...]:
    """Few patterns that cover the kernels that were found and no other."""
    if set(found) == set(every):
        return ("params",)
    alike = tuple(sorted({LAYER.sub("/layers_*/", path) for path in found}))
    covered = {path for path in every if any(matches(pattern, path) for pattern in alike)}
    return alike if covered == set(found) else tuple(found)


def written(
    variables: Variables, lora: Lora, names: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What adapter_config.json says, and the arrays, of a model's LoRA with unrolled layers.

    Args:
      variables: the `lora` collection, and others.
      lora: its settings.
      names: our path -> Transformers' name.
    """
    arrays, modules = {}, _modules(names)
    found = [module for module, kernel in modules.items() if paths_of(kernel)[0] in variables]
    for module in found:
        for letter, path in zip("AB", paths_of(modules[module]), strict=True):
            name = f"base_model.model.{module}.lora_{letter}.weight"
            arrays[name] = np.ascontiguousarray(np.asarray(variables[path], np.float32).T)
    alpha = int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha
    values = {
        "peft_type": "LORA",
        "r": lora.rank,
        "lora_alpha": alpha,
        "target_modules": _targets(found, [n.removesuffix(".weight") for n in names.values()]),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
    }
    return values, arrays


def _targets(found: Sequence[str], every: Sequence[str]) -> list[str]:
    """`target_modules`: last names where all modules of that name are meant, else whole names."""
    last = sorted({module.rpartition(".")[2] for module in found})
    meant = {module for module in every if module.rpartition(".")[2] in last}
    return last if meant == set(found) else list(found)
