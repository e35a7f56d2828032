"""One function for all attention: what it computes, and that its implementations agree."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promot_jax.errors import UserError
from promot_jax.models import attention
from promot_jax.models.attention import attend, attend_kept

BATCH, LENGTH = 2, 6
NO_GPU = pytest.mark.skipif(jax.default_backend() == "gpu", reason="needs a machine without a GPU")
NO_TPU = pytest.mark.skipif(jax.default_backend() == "tpu", reason="needs a machine without a TPU")


def draw(heads, kv_heads, length=LENGTH, width=4, seed=0):
    """Query, key and value."""
    rng = np.random.default_rng(seed)
    sizes = [(BATCH, n, length, width) for n in (heads, kv_heads, kv_heads)]
    return [jnp.asarray(rng.standard_normal(size, np.float32)) for size in sizes]


def by_hand(query, key, value, scale, seen, bias=0.0, cap=None):
    """Attention in float64, head by head."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    result, group = np.zeros(query.shape), query.shape[1] // key.shape[1]
    for b, h in np.ndindex(query.shape[:2]):
        logits = scale * query[b, h] @ key[b, h // group].T
        logits = (cap * np.tanh(logits / cap) if cap else logits) + bias
        logits = np.where(seen[b], logits, -np.inf)
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        result[b, h] = weights / weights.sum(axis=-1, keepdims=True) @ value[b, h // group]
    return result


def visible(length=LENGTH, window=None, segments=None):
    """Who sees whom, [batch, length, length]."""
    distance = np.arange(length)[:, None] - np.arange(length)
    seen = (distance >= 0) & (distance < (window or length))
    seen = np.tile(seen, (BATCH, 1, 1))
    if segments is not None:
        seen &= segments[:, :, None] == segments[:, None]
    return seen


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("cap", [None, 1.5])
@pytest.mark.parametrize("window", [None, 3])
def test_grouped_heads_windows_and_caps(kv_heads, cap, window):
    query, key, value = draw(4, kv_heads)
    seen = visible(window=window)
    got = attend(query, key, value, scale=0.7, mask=jnp.asarray(seen)[:, None], soft_cap=cap)
    np.testing.assert_allclose(got, by_hand(query, key, value, 0.7, seen, 0.0, cap), atol=2e-6)


def test_bias_is_added_behind_the_cap():
    query, key, value = draw(2, 2)
    bias = jnp.asarray(np.random.default_rng(1).standard_normal((LENGTH, LENGTH), np.float32))
    seen = visible()
    got = attend(
        query, key, value, mask=jnp.asarray(seen)[:, None], bias=bias[None, None], soft_cap=2.0
    )
    expected = by_hand(query, key, value, 1.0, seen, np.asarray(bias), 2.0)
    np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize("device", ["tpu", "cpu"])
def test_what_is_kept_for_the_gradient(monkeypatch, device):
    """No weights where memory is what takes time; the gradients, the bias's too, are the same."""
    query, key, value = draw(2, 2)
    bias = jnp.asarray(np.random.default_rng(1).standard_normal((1, 2, LENGTH, LENGTH), np.float32))
    mask, half = jnp.asarray(visible())[:, None], jnp.arange(LENGTH) % 2
    settings = {"mask": mask, "drop": lambda weights: weights * half, "soft_cap": 2.0}

    def run(on, remat):
        monkeypatch.setattr(attention, "platform", lambda: on)
        attended = functools.partial(attend, remat=remat, **settings)
        result, back = jax.vjp(lambda *xs: attended(*xs[:3], bias=xs[3]), query, key, value, bias)
        kept = [x.shape for x in jax.tree.leaves(back)]
        return kept.count((BATCH, 2, LENGTH, LENGTH)), (result, back(jnp.cos(result)))

    kept, found = run(device, False)
    assert (kept == 0) == (device != "cpu")
    for ours, other in zip(*map(jax.tree.leaves, (found, run("cpu", True)[1])), strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("cap", [None, 1.5])
def test_two_parts_with_one_softmax(beams, cap):
    """What is kept of the inputs and the cache of the outputs, as if they were put together."""
    rng = np.random.default_rng(0)
    rows, outputs, lengths = BATCH * beams, 3, np.array([LENGTH, 2])
    make = lambda *size: rng.standard_normal((*size, 4), np.float32)  # noqa: E731
    query = make(rows, 4, 1)
    kept = {"key": make(BATCH, 2, LENGTH), "value": make(BATCH, 2, LENGTH)}
    cache = {"key": make(rows, 2, outputs), "value": make(rows, 2, outputs)}
    kept_mask, mask = np.arange(LENGTH) < lengths[:, None], np.arange(outputs) < 2
    got = attend_kept(query, kept, kept_mask, cache, mask, 0.5, cap)
    together = {
        name: np.concatenate([np.repeat(kept[name], beams, axis=0), cache[name]], axis=2)
        for name in kept
    }
    seen = np.concatenate([np.repeat(kept_mask, beams, axis=0), np.tile(mask, (rows, 1))], axis=1)
    expected = by_hand(query, together["key"], together["value"], 0.5, seen[:, None], 0.0, cap)
    np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize("window", [None, 100])
@pytest.mark.parametrize(("cap", "packed"), [(None, False), (2.0, True)])
def test_splash_is_xla(monkeypatch, window, cap, packed):
    """Interpreted, with its gradients; the length is no multiple of its blocks."""
    monkeypatch.setattr(attention, "INTERPRET", True)
    length, ends = 200, np.array([[90, 160], [40, 200]])
    places = np.arange(length)
    segments = (places < ends[:, :1]) * 1 + (places < ends[:, 1:]) * 1  # 2, then 1, then padding
    segments = segments if packed else None
    arrays = draw(4, 2, length, 16)
    seen = visible(length, window, segments)
    real = np.ones((BATCH, length)) if segments is None else segments > 0

    def run(implementation):
        def total(arrays):
            x = attend(
                *arrays,
                scale=0.3,
                mask=jnp.asarray(seen)[:, None],
                causal=True,
                windows=[None, window],
                kind=1,
                segments=None if segments is None else jnp.asarray(segments, jnp.int32),
                soft_cap=cap,
                implementation=implementation,
            )
            x = x * real[:, None, :, None]
            return jnp.sum(x * jnp.cos(jnp.arange(x.size).reshape(x.shape))), x

        return jax.jit(jax.value_and_grad(total, has_aux=True))(arrays)

    ((_, got), gradients), ((_, expected), wanted) = run("splash"), run("xla")
    np.testing.assert_allclose(got, expected, atol=1e-5)
    for gradient, other in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-4)


def test_splash_picks_the_window_of_a_scanned_layer(monkeypatch):
    monkeypatch.setattr(attention, "INTERPRET", True)
    arrays = draw(2, 1, 128, 16)
    how = {"causal": True, "windows": [None, 5], "implementation": "splash"}
    run = jax.jit(lambda kind: attend(*arrays, kind=kind, **how))
    for kind, window in enumerate([None, 5]):
        expected = by_hand(*arrays, 1.0, visible(128, window))
        np.testing.assert_allclose(run(jnp.int32(kind)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        pytest.param(
            {"implementation": "cudnn"}, "'cudnn': it runs on GPUs, and this is a", marks=NO_GPU
        ),
        pytest.param(
            {"implementation": "splash"}, "'splash': it runs on TPUs, and this is a", marks=NO_TPU
        ),
        ({"implementation": "splash", "bias": 1}, "no attention bias"),
        ({"implementation": "splash", "drop": 1}, "no dropout"),
        ({"implementation": "splash", "mask": 1}, "no masks but causal ones"),
        ({"implementation": "splash", "causal": False}, "for causal attention"),
    ],
)
def test_what_a_forced_one_cannot_do(monkeypatch, how, message):
    monkeypatch.setattr(attention, "INTERPRET", len(how) > 1)
    zeros = jnp.zeros((1, 1, LENGTH, LENGTH), bool)
    how = {"causal": "mask" not in how} | how
    how |= {name: zeros for name in ("bias", "mask") if name in how}
    with pytest.raises(UserError, match=message):
        attend(*draw(2, 2), **how)


def test_none_is_forced_where_nothing_is_said():
    """On a CPU "auto" is XLA, to the bit."""
    arrays, seen = draw(4, 2), jnp.asarray(visible())[:, None]
    got, expected = (
        attend(*arrays, mask=seen, causal=True, implementation=name) for name in ("auto", "xla")
    )
    np.testing.assert_array_equal(got, expected)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU")
@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize(("window", "packed"), [(None, False), (100, False), (100, True)])
def test_cudnn_is_xla(window, packed, width):
    """In bfloat16, with gradients; packed rows have a mask for a bias."""
    length = 256
    segments = np.repeat([[1, 2], [3, 0]], length // 2, axis=1) if packed else None
    arrays = [x.astype(jnp.bfloat16) for x in draw(4, 2, length, width)]
    seen = jnp.asarray(visible(length, window, segments))[:, None]

    def run(implementation, dtype):
        def total(arrays):
            x = attend(
                *arrays,
                scale=0.1,
                mask=seen,
                causal=True,
                windows=[window],
                segments=None if segments is None else jnp.asarray(segments, jnp.int32),
                implementation=implementation,
            ).astype(jnp.float32)
            return jnp.sum(x * jnp.cos(jnp.arange(x.size).reshape(x.shape))), x

        arrays_here = [x.astype(dtype) for x in arrays]
        return jax.jit(jax.value_and_grad(total, has_aux=True))(arrays_here)

    ((_, exact), wanted) = run("xla", jnp.float32)
    results = {name: run(name, jnp.bfloat16) for name in ("cudnn", "xla")}
    errors = {}
    for name, ((_, x), gradients) in results.items():
        pairs = zip([x, *gradients], [exact, *wanted], strict=True)
        errors[name] = [float(jnp.abs(a.astype(jnp.float32) - b).max()) for a, b in pairs]
    for error, own in zip(errors["cudnn"], errors["xla"], strict=True):
        assert error <= 3 * own


@pytest.mark.parametrize(
    ("device", "how", "width", "taken"),
    [
        ("cuda 8.0", {}, 128, "cudnn"),
        ("cuda 8.0", {}, 256, "xla"),
        ("cuda 9.0", {}, 256, "cudnn"),
        ("cuda 7.5", {}, 64, "xla"),
        ("rocm gfx90a", {}, 64, "xla"),
        ("cuda 9.0", {"dtype": jnp.float32}, 64, "xla"),
        ("cuda 9.0", {"soft_cap": 2.0}, 64, "xla"),
        ("cuda 9.0", {"segments": jnp.ones((BATCH, 128), jnp.int32)}, 64, "xla"),
        ("cuda 9.0", {"causal": False, "mask": jnp.ones((1, 1, 128, 128), bool)}, 64, "xla"),
        ("tpu", {"soft_cap": 2.0}, 128, "splash"),
        ("tpu", {"segments": jnp.ones((BATCH, 128), jnp.int32)}, 256, "splash"),
        ("tpu", {}, 64, "xla"),
        ("tpu", {"causal": False}, 128, "xla"),
    ],
)
def test_what_auto_takes(monkeypatch, device, how, width, taken):
    """On devices that are not here; nothing is computed."""
    name, _, capability = device.partition(" ")
    client = types.SimpleNamespace(platform_version=f"PJRT {name} 1.0")
    there = types.SimpleNamespace(client=client, compute_capability=capability)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu" if name == "tpu" else "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [there])
    for kernel in ("cudnn", "splash", "xla"):
        monkeypatch.setattr(attention, f"_{kernel}", lambda *_, name=kernel, **__: name)
    how = {"causal": True} | how
    dtype = how.pop("dtype", jnp.bfloat16)
    arrays = [x.astype(dtype) for x in draw(4, 2, 128, width)]
    assert attend(*arrays, remat=True, **how) == taken
