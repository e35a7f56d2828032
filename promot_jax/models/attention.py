"""Attention in one place: what every model asks for, and which implementation computes it.

xla      plain products and softmax; everything, everywhere
cudnn    fused kernels of NVIDIA GPUs, through `jax.nn.dot_product_attention`
splash   Pallas kernels of TPUs: causal attention, windows, segments, soft caps

"auto" takes a kernel where the device has one that can do what is asked, and XLA elsewhere. The
configs' `attention` forces one; all compute the same up to rounding.

Queries of grouped heads are never met with repeated keys: the query heads that share a key head are
further rows of one product.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from promot_jax.errors import UserError
from promot_jax.models.placing import platform

MASKED = -1e10  # finite, so that a row with every key masked stays a number
LANES = 128  # what splash's blocks are multiples of
INTERPRET = False  # whether splash runs on CPUs, as its tests want it
Drop = Callable[[Float[Array, "batch heads q k"]], Float[Array, "batch heads q k"]]


@jax.custom_vjp
def add_bias(
    logits: Float[Array, "batch heads q k"], bias: Float[Array, "1 heads q k"]
) -> Float[Array, "batch heads q k"]:
    """logits + bias; on CPU the bias's gradient is a product with ones.

    XLA's CPU backend sums over the leading axis ten times slower than it multiplies.
    """
    return logits + bias


def _add_bias_backward(_, gradient):
    if platform() != "cpu":
        return gradient, jnp.sum(gradient, axis=0, keepdims=True)
    rows = gradient.reshape(gradient.shape[0], -1)
    total = jnp.ones((1, rows.shape[0]), rows.dtype) @ rows
    return gradient, total.reshape(1, *gradient.shape[1:])


add_bias.defvjp(lambda logits, bias: (logits + bias, None), _add_bias_backward)


def capped(logits: Float[Array, "..."], cap: float | None) -> Float[Array, "..."]:
    """cap * tanh(logits / cap): near 0 as they are, never beyond the cap (Gemma 2); None: as is."""
    return logits if cap is None else cap * jnp.tanh(logits / cap)


def attend(
    query: Float[Array, "batch heads q head_dim"],
    key: Float[Array, "batch kv_heads k head_dim"],
    value: Float[Array, "batch kv_heads k head_dim"],
    *,
    scale: float = 1.0,
    mask: Bool[Array, "#batch 1 q k"] | None = None,
    causal: bool = False,
    windows: Sequence[int | None] = (None,),
    kind: int | Int[Array, ""] = 0,
    segments: Int[Array, "batch q"] | None = None,
    bias: Float[Array, "1 heads q k"] | None = None,
    soft_cap: float | None = None,
    drop: Drop | None = None,
    implementation: str = "auto",
    remat: bool = False,
) -> Float[Array, "batch heads q head_dim"]:
    """softmax(cap(scale * query key^T) + bias) value, softmax in float32.

    Args:
      query: the queries.
      key: keys; query head h reads key head h // (heads / kv_heads).
      value: values.
      scale: of the logits.
      mask: who may look at whom. Where `causal` is set it must say what causal, the window and
        segments say; kernels read those, XLA reads the mask, which is built once for all layers.
      causal: no query sees a later key; q and k are the same tokens.
      windows: how many tokens, itself included, a query sees in each kind of layer; None: all.
      kind: which of them this layer is of; in scanned layers it is no plain number.
      segments: tokens see their own segment; 0 is padding.
      bias: added to the capped logits.
      soft_cap: c of c * tanh(logits / c).
      drop: dropout of the weights.
      implementation: "auto", or the one to take.
      remat: whether the layer is computed again in the backward pass, and this with it.

    Raises:
      UserError: the one to take cannot do what is asked; it says why.
    """
    kernels = {"cudnn": _cudnn, "splash": _splash}
    for name in kernels if implementation == "auto" else {implementation} & set(kernels):
        structured = causal or mask is None
        asked = {"bias": bias, "soft_cap": soft_cap, "drop": drop, "segments": segments}
        reason = _lacks(name, query, key, structured, causal, asked)
        if reason is None and not (implementation == "auto" and _slower(name, query, segments)):
            run = functools.partial(kernels[name], scale=scale, causal=causal, soft_cap=soft_cap)
            branches = [functools.partial(run, window=window) for window in windows]
            if isinstance(kind, int):
                return branches[kind](query, key, value, mask, segments)
            return jax.lax.switch(kind, branches, query, key, value, mask, segments)
        if implementation != "auto":
            raise UserError(f"the setting attention = {name!r}: {reason}; set 'auto' or 'xla'")
    run = functools.partial(_xla, scale=scale, soft_cap=soft_cap, drop=drop)
    if not remat and platform() != "cpu":  # whose time goes into products, not into memory
        run = jax.checkpoint(run)  # the weights are many, and cheap to compute again
    return run(query, key, value, mask, bias)


def _lacks(name, query, key, structured, causal, asked) -> str | None:
    """Why a kernel cannot do what is asked; None where it can."""
    device = {"cudnn": "gpu", "splash": "tpu"}[name]
    backend = platform()
    if backend != device and not (name == "splash" and backend == "cpu" and INTERPRET):
        return f"it runs on {device.upper()}s, and this is a {backend.upper()}"
    if asked["drop"] is not None or asked["bias"] is not None:
        return "it has no attention bias and no dropout of attention weights, as T5 has"
    if not structured:
        return "it has no masks but causal ones, windows and segments"
    if name == "splash":
        return None if causal else "it is for causal attention"
    if asked["soft_cap"] is not None:
        return "it has no soft cap of attention logits"
    if query.dtype not in (jnp.bfloat16, jnp.float16):
        return f"it computes in bfloat16, not {query.dtype}: set dtype = 'bfloat16'"
    device = jax.local_devices()[0]
    if "cuda" not in device.client.platform_version or float(device.compute_capability) < 8:
        return "it runs on NVIDIA's Ampere and later"
    most = 256 if float(device.compute_capability) >= 9 else 128
    if query.shape[-1] % 8 or query.shape[-1] > most:
        return f"head_dim = {query.shape[-1]} is no multiple of 8 up to {most}"
    if asked["segments"] is not None and query.shape[2] % 2:
        return f"packed rows of {query.shape[2]} tokens: it needs an even length"
    return None


def _slower(name: str, query: Array, segments: Array | None) -> bool:
    """Whether "auto" leaves a kernel that could do it."""
    if name == "splash":  # tiles are 128 wide; nobody has tried it on narrower heads
        return query.shape[-1] % LANES != 0 or query.shape[2] < LANES
    return segments is not None  # a packed row's mask would be a bias, with a gradient


def _xla(query, key, value, mask, bias, *, scale, soft_cap, drop):
    """Divides by softmax's sum behind the product with the values, where no keys are left.

    XLA then makes one pass of each product on TPUs, and no array of all weights in float32.
    """
    batch, heads, length, width = query.shape
    kv_heads, keys = key.shape[1:3]
    rows = query.reshape(batch, kv_heads, -1, width)
    logits = jnp.einsum("bhqd,bhkd->bhqk", rows, key).astype(jnp.float32)
    logits = logits.reshape(batch, heads, length, keys)
    if scale != 1.0:
        logits = logits * scale
    logits = capped(logits, soft_cap)
    if bias is not None:
        logits = add_bias(logits, bias)
    if mask is not None:
        logits = jnp.where(mask, logits, MASKED)
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1, keepdims=True)
    weights = weights.astype(query.dtype)
    weights = weights if drop is None else drop(weights)
    rows = weights.reshape(batch, kv_heads, -1, keys)
    result = jnp.einsum("bhqk,bhkd->bhqd", rows, value).reshape(query.shape)
    return (result / total).astype(query.dtype)


def _cudnn(query, key, value, mask, segments, *, scale, causal, window, soft_cap):
    del soft_cap
    swap = lambda x: x.transpose(0, 2, 1, 3)  # noqa: E731
    if segments is not None:  # no kernel of its own: the mask becomes a bias
        mask = jnp.broadcast_to(mask, (query.shape[0], 1, query.shape[2], key.shape[2]))
    result = jax.nn.dot_product_attention(
        swap(query),
        swap(key),
        swap(value),
        mask=mask if segments is not None else None,
        scale=scale,
        is_causal=causal,
        local_window_size=None if window is None else (window - 1, 0),
        implementation="cudnn",
    )
    return swap(result)


def _splash(query, key, value, mask, segments, *, scale, causal, window, soft_cap):
    """Every example and head by itself; on a mesh, on the devices that have them."""
    del mask, causal
    length = query.shape[2]
    pad = -length % LANES  # later than every real token, so that the causal mask hides it
    longer = lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, pad), (0, 0)))  # noqa: E731
    query, key, value = longer(query * jnp.asarray(scale, query.dtype)), longer(key), longer(value)
    if segments is None:
        segments = jnp.ones((query.shape[0], length), jnp.int32)
    segments = jnp.pad(segments, ((0, 0), (0, pad)))
    run = functools.partial(_splash_local, window=window, soft_cap=soft_cap)
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.size > 1:
        rows, heads = _parts(mesh, query, key)
        spec = PartitionSpec(rows, heads)
        run = jax.shard_map(
            run,
            in_specs=(spec, spec, spec, PartitionSpec(rows)),
            out_specs=spec,
            check_vma=False,
        )
    return run(query, key, value, segments)[:, :, :length]


def _parts(mesh, query, key):
    """The mesh's axes that cut the batch and the heads; None where they do not divide them."""
    rows, heads = nn.logical_to_mesh_axes(("batch", "kv_heads"))
    size = lambda axes: functools.reduce(  # noqa: E731
        lambda n, axis: n * mesh.shape[axis], axes if isinstance(axes, tuple) else (axes,), 1
    )
    rows = rows if rows is not None and query.shape[0] % size(rows) == 0 else None
    heads = heads if heads is not None and key.shape[1] % size(heads) == 0 else None
    return rows, heads


def _splash_local(query, key, value, segments, *, window, soft_cap):
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    length, heads = query.shape[2], query.shape[1]
    shape = (length, length)
    one = masks.CausalMask(shape)
    if window is not None:
        one = one & masks.LocalMask(shape, (window - 1, 0), 0)
    block = next(size for size in (512, 256, 128) if length % size == 0)
    names = ("q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute", "q_dq", "kv_dq")
    run = kernel.make_splash_mha(
        masks.MultiHeadMask([one] * heads),
        block_sizes=kernel.BlockSizes(**{f"block_{name}": block for name in names}),
        attn_logits_soft_cap=soft_cap,
        head_shards=1,
        q_seq_shards=1,
        interpret=INTERPRET,
    )
    return jax.vmap(lambda q, k, v, s: run(q, k, v, kernel.SegmentIds(s, s)))(
        query, key, value, segments
    )


def attend_kept(
    query: Float[Array, "rows heads 1 head_dim"],
    kept: dict[str, Float[Array, "batch kv_heads inputs head_dim"]],
    kept_mask: Bool[Array, "batch inputs"],
    cache: dict[str, Float[Array, "rows kv_heads outputs head_dim"]],
    mask: Bool[Array, " outputs"],
    scale: float,
    soft_cap: float | None,
) -> Float[Array, "rows heads 1 head_dim"]:
    """One token's attention over what is kept of the inputs and over the cache of outputs.

    One softmax goes over both parts, which are never put together. The rows are the batch's, or
    several beams of each, one behind the other: they read one copy of what is kept.
    """
    rows, heads, _, width = query.shape
    batch, kv_heads, inputs, _ = kept["key"].shape
    beams, group = rows // batch, heads // kv_heads
    own = query.reshape(rows, kv_heads, group, width)
    shared = own.reshape(batch, beams, kv_heads, group, width).transpose(0, 2, 1, 3, 4)
    shared = shared.reshape(batch, kv_heads, beams * group, width)

    def logits(q, k, seen):
        x = jnp.einsum("bhqd,bhkd->bhqk", q, k).astype(jnp.float32) * scale
        return jnp.where(seen, capped(x, soft_cap), MASKED)

    def of_rows(x):  # [batch, kv_heads, beams * group, n] -> [rows, kv_heads, group, n]
        x = x.reshape(batch, kv_heads, beams, group, -1).transpose(0, 2, 1, 3, 4)
        return x.reshape(rows, kv_heads, group, -1)

    first = of_rows(logits(shared, kept["key"], kept_mask[:, None, None]))
    second = logits(own, cache["key"], mask)
    most = jnp.maximum(first.max(-1, keepdims=True), second.max(-1, keepdims=True))
    first, second = jnp.exp(first - most), jnp.exp(second - most)
    total = first.sum(-1, keepdims=True) + second.sum(-1, keepdims=True)
    first, second = ((x / total).astype(query.dtype) for x in (first, second))
    first = first.reshape(batch, beams, kv_heads, group, inputs).transpose(0, 2, 1, 3, 4)
    first = first.reshape(batch, kv_heads, beams * group, inputs)
    x = of_rows(jnp.einsum("bhqk,bhkd->bhqd", first, kept["value"]))
    x = x + jnp.einsum("bhqk,bhkd->bhqd", second, cache["value"])
    return x.reshape(query.shape)
