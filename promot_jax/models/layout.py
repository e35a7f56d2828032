"""Where variables come from and how they lie: initialisation, logical axes, scanned layers or not.

Variables are held as one flat dictionary `{"params/encoder/layers_0/mlp/wo/kernel": array}`: paths
are what stages select by, what checkpoints store and what messages name. The canonical layout is
the unrolled one; `scan_layers` stacks it, so that the setting changes no number.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, PRNGKeyArray

from promot_jax.models import lora
from promot_jax.models.model import Model
from promot_jax.models.names import LAYER, STACK, layers_of, stacked

Variables = dict[str, Any]
# Of a batch, what either kind of model reads.
INPUTS = (
    "encoder_input_tokens", "encoder_segment_ids", "decoder_input_tokens",
    "decoder_target_positions",
)  # fmt: skip


def nested(variables: Variables) -> dict[str, Any]:
    """The nested form that Flax's `apply` takes."""
    return traverse_util.unflatten_dict(variables, sep="/")


def flat(variables: dict[str, Any]) -> Variables:
    """The flat form `{"params/...": leaf}`."""
    return traverse_util.flatten_dict(variables, sep="/")


def stack_layers(variables: Variables, stack=jnp.stack) -> Variables:
    """`.../layers_<i>/...` -> `.../layers/...` with the layers along a new first axis."""
    layers: dict[str, dict[int, Any]] = {}
    rest = {}
    for path, leaf in variables.items():
        if match := LAYER.search(path):
            layers.setdefault(stacked(path), {})[int(match[1])] = leaf
        else:
            rest[path] = leaf
    return rest | {p: stack([group[i] for i in sorted(group)]) for p, group in layers.items()}


def unstack_layers(variables: Variables) -> Variables:
    """The inverse of `stack_layers`."""
    unstacked = {}
    for path, leaf in variables.items():
        if STACK in path:
            unstacked |= dict(zip(layers_of(path, leaf.shape), leaf, strict=True))
        else:
            unstacked[path] = leaf
    return unstacked


def canonical(model: Model) -> Model:
    """The same model with unrolled layers."""
    return model.clone(config=dataclasses.replace(model.config, scan_layers=False, remat=False))


def _boxed_init(model: Model, key: PRNGKeyArray) -> Variables:
    batch = dict.fromkeys(INPUTS, jnp.ones((1, 1), jnp.int32))
    used = lambda module: (module.hidden(batch), module.head())  # noqa: E731
    return flat(canonical(model).init(key, method=used))


def init(model: Model, key: PRNGKeyArray) -> dict[str, Array]:
    """Random variables; prompts are zeros until an initialiser of `prompts.py` fills them."""
    variables = {p: nn.meta.unbox(leaf) for p, leaf in _boxed_init(model, key).items()}
    variables |= lora.draw(key, _lora_shapes(model))
    return stack_layers(variables) if model.config.scan_layers else variables


def init_lora(model: Model, key: PRNGKeyArray) -> dict[str, Array]:
    """The `lora` collection at the start of training."""
    variables = lora.draw(key, _lora_shapes(model))
    return stack_layers(variables) if model.config.scan_layers else variables


@functools.lru_cache(maxsize=16)
def _boxed_shapes(model: Model) -> Variables:
    """Shapes and axis names of the unrolled layers; tracing a deep model takes seconds."""
    return jax.eval_shape(lambda: _boxed_init(model, jax.random.key(0)))


def _shapes(model: Model) -> dict[str, jax.ShapeDtypeStruct]:
    """Those of the unrolled layers, without LoRA's."""
    return {p: leaf.value for p, leaf in _boxed_shapes(canonical(model)).items()}


def _lora_shapes(model: Model) -> dict[str, jax.ShapeDtypeStruct]:
    """LoRA's, of the unrolled layers."""
    of_kernels, config = _shapes(model), model.config
    found = lora.kernels(config.lora, of_kernels, config.scan_layers)
    return lora.shapes(found, of_kernels, config.lora)


def abstract(model: Model) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of `init`, at no cost.

    Raises:
      UserError: LoRA's settings do not fit the model.
    """
    shapes = _shapes(model) | _lora_shapes(model)
    if not model.config.scan_layers:
        return shapes
    stack = lambda group: jax.ShapeDtypeStruct((len(group), *group[0].shape), group[0].dtype)  # noqa: E731
    return stack_layers(shapes, stack)


def logical_axes(model: Model) -> dict[str, tuple[str, ...]]:
    """Names of every array's axes, e.g. ("embed", "mlp"), which a mesh's rules map to devices."""
    axes = {path: leaf.names for path, leaf in _boxed_shapes(canonical(model)).items()}
    axes |= lora.axes(lora.kernels(model.config.lora, _shapes(model)), axes)
    if not model.config.scan_layers:
        return axes
    return stack_layers(axes, stack=lambda names: ("layers", *names[0]))
