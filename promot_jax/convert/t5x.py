"""T5X's names and layouts as ours, and the model's settings from the shapes of its arrays.

T5X's minimal models lie as ours do. Its scalable models keep the heads of a kernel apart, have a
table of relative positions in every layer, and, where layers are scanned, one array for all layers
of a stack with the layers along axis 1. A checkpoint says nothing of its model, but its shapes do:
all sizes, the head count (from the relative positions), gated or not, tied or not. Only the
activation does not show: ReLU where there is one projection (T5 1.0), GELU where two (T5 1.1, mT5).
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from promot_jax.convert.source import Source, Tensor, family_of
from promot_jax.convert.t5x_files import Stored, dtype_of, open_files
from promot_jax.errors import UserError
from promot_jax.models import T5, T5Config, abstract

PROMPT = "encoder/prompt/prompt/prompt"  # where google-research/prompt-tuning keeps it
STACKED = re.compile(r"(encoder|decoder)/\1/(.+)")
SHARED = "params/encoder/relpos_bias/rel_embedding"
LAYER = "params/encoder/layers_0"


def read(path: str, prompt_name: str = "prompt") -> Source:
    """Opens a T5X checkpoint at a local path or gs://; its arrays are read when they are asked for.

    Args:
      path: its directory, the `checkpoint` file in it, or a model directory with several.
      prompt_name: what a prompt of google-research/prompt-tuning in it is called here.

    Raises:
      UserError: it is none, damaged, or not of a T5.
    """
    files = open_files(path)
    weights = {name.removeprefix("target/"): x for name, x in files.arrays.items()}
    tensors = tensors_of(weights, prompt_name)
    config = infer(path, tensors)
    layout = "scanned" if any(map(STACKED.fullmatch, weights)) else "minimal"
    about = {"format": files.format, "layout": layout, "step": files.step}
    names = {path: their_name(path, layout == "scanned") for path in abstract(T5(config))}
    return Source(
        kind="t5x",
        family=family_of(config),
        config=config,
        tensors=tensors,
        names=names,
        about=about | {"ignored_arrays": files.ignored},
    )


def tensors_of(weights: Mapping[str, Stored], prompt_name: str) -> dict[str, Tensor]:
    """T5X's arrays by our paths; the layers of a stacked one follow each other.

    To be read in this order: of the stacked arrays the last one is kept whole while its layers are
    taken from it, since any slice of it costs as much as all of it.
    """
    whole = functools.lru_cache(maxsize=1)(lambda name: read_array(name, weights[name]))
    tensors = {}
    for name, array in weights.items():
        for path, layer in places(name, array.shape, prompt_name):
            shape = array.shape if layer is None else (array.shape[0], *array.shape[2:])
            shape = joined(path, shape)
            tensors[path] = Tensor(
                theirs=name if layer is None else f"{name}[:, {layer}]",
                shape=shape,
                dtype=dtype_of(array).name,
                read=_reader(whole, name, array, layer, shape),
            )
    return tensors


def _reader(whole: Callable, name: str, array: Stored, layer: int | None, shape: tuple) -> Callable:
    if layer is None:
        return lambda: read_array(name, array).reshape(shape)
    return lambda: np.ascontiguousarray(whole(name)[:, layer]).reshape(shape)


def read_array(name: str, array: Stored) -> np.ndarray:
    """The array itself.

    Raises:
      UserError: a part of it is lost or damaged.
    """
    try:
        return np.asarray(array)
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(
            f"{name} of the T5X checkpoint cannot be read ({reason}): restore it"
        ) from error


def places(name: str, shape: tuple[int, ...], prompt_name: str) -> Iterator[tuple[str, int | None]]:
    """Our path for a T5X array; for one of stacked layers, each layer's path and its index."""
    if match := STACKED.fullmatch(name):
        for layer in range(shape[1]):
            yield f"params/{match[1]}/layers_{layer}/{match[2]}", layer
    else:
        yield f"prompt/{prompt_name}" if name == PROMPT else f"params/{name}", None


def their_name(path: str, scanned: bool) -> str:
    """The inverse of `places`, for what is missing."""
    name = path.removeprefix("params/")
    if scanned and (match := re.fullmatch(r"(encoder|decoder)/layers_(\d+)/(.+)", name)):
        return f"target/{match[1]}/{match[1]}/{match[3]}[:, {match[2]}]"
    return f"target/{name}"


def joined(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with heads and their width in one: [E, H, D] -> [E, HD], and [H, D, E] of `out`."""
    if len(shape) != 3:
        return shape
    first, second, third = shape
    return (first * second, third) if path.endswith("/out/kernel") else (first, second * third)


def infer(path: str, tensors: Mapping[str, Tensor]) -> T5Config:
    """The model's settings, as far as shapes show them; the activation is the published family's.

    Raises:
      UserError: these are not the arrays of a T5.
    """
    per_layer = SHARED not in tensors
    table = f"{LAYER}/relpos_bias/rel_embedding" if per_layer else SHARED
    try:
        vocab_size, emb_dim = tensors["params/token_embedder/embedding"].shape
        heads, buckets = tensors[table].shape
        mlp_dim = tensors[f"{LAYER}/mlp/wo/kernel"].shape[0]
        width = tensors[f"{LAYER}/attention/query/kernel"].shape[1]
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"{path!r} holds no encoder-decoder T5 ({error} is absent or misshapen):"
            " give a checkpoint of T5, mT5, umT5 or ByT5"
        ) from error
    if width % heads:
        raise UserError(f"{path!r}: queries of width {width} do not divide into {heads} heads")
    gated = f"{LAYER}/mlp/wi_0/kernel" in tensors
    half = {x.dtype for p, x in tensors.items() if p.startswith("params/")} == {"bfloat16"}
    return T5Config(
        vocab_size=vocab_size,
        emb_dim=emb_dim,
        num_heads=heads,
        num_encoder_layers=_layers(tensors, "encoder"),
        num_decoder_layers=_layers(tensors, "decoder"),
        head_dim=width // heads,
        mlp_dim=mlp_dim,
        mlp_activations=("gelu", "linear") if gated else ("relu",),
        logits_via_embedding="params/decoder/logits_dense/kernel" not in tensors,
        relative_attention_num_buckets=buckets,
        relpos_per_layer=per_layer,
        param_dtype="bfloat16" if half else "float32",
    )


def _layers(tensors: Mapping[str, Tensor], stack: str) -> int:
    pattern = re.compile(rf"params/{stack}/layers_(\d+)/.*")
    return 1 + max((int(m[1]) for m in map(pattern.fullmatch, tensors) if m), default=-1)
