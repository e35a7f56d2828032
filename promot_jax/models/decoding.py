"""Generation with a key-value cache: greedy, sampling, beam search.

All rows of a batch decode together, each until a token that ends it; which prompt a row has, or
none, is in its input ids. Everything has a fixed shape, so one compilation serves all batches of
that shape. Behind an output's end its ids are 0 and mean nothing.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from promot_jax.errors import UserError, check_types
from promot_jax.models.layout import Variables, logical_axes, nested
from promot_jax.models.model import START, Model
from promot_jax.models.placing import by_row, in_rows, lay_out, weights_stay

NEVER = -1e7  # log-probability of what must not happen; finite, so that sums stay numbers

# Both extend the live beams by twice as many candidates, take those that have an end out as
# finished, and stop where no live beam can still enter the finished ones. They differ in
#              the penalty of n tokens   who may finish                  the best still possible
# t5x          ((5 + n) / 6)^alpha       every candidate                 as if it had max_length
# huggingface  n^alpha                   the first `beams` candidates;   as if it ended here
#                                        at max_length without end too   (early_stopping=False)
# after t5x.decoding.beam_search (its penalty: Wu et al. 2016) and transformers' generate.
BEAM_SEARCHES = ("t5x", "huggingface")
# More is a slip of the hand, and would ask for all memory there is, or overflow float32.
RANGES = {
    "max_length": (1, 2**14),
    "beams": (1, 2**8),
    "top_k": (0, 2**31 - 1),
    "length_penalty": (-5, 5),
}
COLDEST, HOTTEST = 1e-6, 1e6  # of temperatures; below, logits divided by them overflow


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How to generate.

    Attributes:
      max_length: most tokens of an output, its end included; up to 16384.
      beams: 1 for greedy search or sampling.
      temperature: 0 takes the likeliest token; above, samples from the softmax at this temperature.
      top_k: sample among the k likeliest tokens; 0 for all. Of equally likely ones, here and for
        top_p, the smaller ids come first.
      top_p: sample among the fewest tokens that hold this probability; 1 for all.
      length_penalty: alpha of beam search's length penalty, by which a log-probability is divided.
        T5X's default is 0.6, Hugging Face's 1.
      beam_search: whose rules beams follow, "t5x" or "huggingface" (see `BEAM_SEARCHES`).
      seed: of the sampling.
      stop_texts: an output ends where one of these begins.

    Raises:
      UserError: a value out of range, or sampling together with beams.
    """

    max_length: int = 64
    beams: int = 1
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    length_penalty: float = 0.6
    beam_search: str = "t5x"
    seed: int = 0
    stop_texts: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "stop_texts", tuple(self.stop_texts))
        check_types(self)
        if not all(self.stop_texts):
            raise UserError(
                f"Decoding.stop_texts = {self.stop_texts!r}: an empty text ends nothing"
            )
        for name, (low, high) in RANGES.items():
            if not low <= (value := getattr(self, name)) <= high:
                raise UserError(f"Decoding.{name} = {value}: set {low} to {high}")
        if self.temperature != 0 and not COLDEST <= self.temperature <= HOTTEST:
            raise UserError(
                f"Decoding.temperature = {self.temperature}: set 0, or {COLDEST:g} to {HOTTEST:g}"
            )
        if not 0 < self.top_p <= 1:
            raise UserError(f"Decoding.top_p = {self.top_p}: set a probability in (0, 1]")
        if self.beams > 1 and self.temperature > 0:
            raise UserError(
                f"Decoding.beams = {self.beams} with temperature = {self.temperature}: set one"
            )
        if self.beam_search not in BEAM_SEARCHES:
            raise UserError(
                f"Decoding.beam_search = {self.beam_search!r}: set one of {BEAM_SEARCHES}"
            )


def generate(
    model: Model,
    variables: Variables,
    inputs: Int[Array, "batch inputs"],
    segments: Int[Array, "batch inputs"],
    decoding: Decoding,
    stop_ids: Sequence[int],
    rows: Int[Array, " batch"] | None = None,
) -> tuple[Int[Array, "batch outputs"], Float[Array, " batch"]]:
    """The outputs and their scores.

    A score is the output's log-probability; with beams, divided by the length penalty. What is
    sampled for a row depends on its number in `rows` (None: 0, 1, ...), not on its batch.

    Args:
      model: of either kind.
      variables: its variables.
      inputs: tokens, padded on the right.
      segments: 0 where that is padding.
      decoding: how to generate; its texts are the caller's to cut.
      stop_ids: tokens that end an output, each of which is its last one.
      rows: numbers of the rows.
    """
    ids, scores = generate_all(model, variables, inputs, segments, decoding, stop_ids, rows)
    return ids[:, 0], scores[:, 0]


def generate_all(
    model: Model,
    variables: Variables,
    inputs: Int[Array, "batch inputs"],
    segments: Int[Array, "batch inputs"],
    decoding: Decoding,
    stop_ids: Sequence[int],
    rows: Int[Array, " batch"] | None = None,
) -> tuple[Int[Array, "batch beams outputs"], Float[Array, "batch beams"]]:
    """As `generate`, with all beams, best first."""
    stops = jnp.asarray(stop_ids, jnp.int32)
    logits, cache, kept = model.apply(
        nested(variables), inputs, segments, decoding.max_length, method="prefill"
    )
    staying = nested(_for_steps(model, variables))

    def step(token, cache, index):
        with weights_stay():
            logits, cache = model.apply(staying, token, cache, kept, index, method="decode_step")
        return _of_rows(logits), cache

    def ends(tokens):
        return jnp.any(tokens[..., None] == stops, axis=-1)

    if logits is None:
        logits, cache = step(jnp.full(len(inputs), START), cache, 0)
    else:
        logits = _of_rows(logits)
    if decoding.beams > 1:
        axis = int(model.config.scan_layers)
        return _beam_search(step, ends, logits, cache, decoding, axis)
    rows = jnp.arange(len(inputs)) if rows is None else rows
    ids, scores = _sample(step, ends, logits, cache, decoding, rows)
    return ids[:, None], scores[:, None]


def _of_rows(logits: Float[Array, "rows vocab"]) -> Float[Array, "rows vocab"]:
    """Logits of whole rows, each on the device that chooses the row's token."""
    return lay_out(lay_out(logits, ("batch", "vocab")), ("batch", None))  # first rows, then vocab


def _for_steps(model: Model, variables: Variables) -> Variables:
    """The variables as each step reads them: rounded once, and cut so that no step gathers any."""
    axes = logical_axes(model)
    tied = {"params/token_embedder/embedding"} if model.config.logits_via_embedding else set()

    def place(path, x):
        if not path.startswith(("params/decoder/", "lora/decoder/")) and path not in tied:
            return x
        rounded = path.endswith(("/kernel", "/a", "/b")) and "logits_dense" not in path
        return lay_out(x.astype(model.config.dtype) if rounded else x, axes[path])

    with weights_stay():
        return {path: place(path, x) for path, x in variables.items()}


def _choose(
    logits: Float[Array, "batch vocab"], keys: PRNGKeyArray, decoding: Decoding
) -> Int[Array, " batch"]:
    """The next tokens: the likeliest or, with a row's own key, one that top-k and top-p leave."""
    if decoding.temperature == 0:
        return jnp.argmax(logits, axis=-1)
    draw = jax.vmap(jax.random.categorical)
    logits = logits / decoding.temperature
    if decoding.top_k == 0 and decoding.top_p == 1:
        return draw(keys, logits)
    # Likeliest first; of equals the smaller id.
    vocab = logits.shape[-1]
    likeliest = lambda rows: jax.lax.top_k(rows, min(decoding.top_k or vocab, vocab))  # noqa: E731
    logits, tokens = by_row(likeliest, logits)
    if decoding.top_p < 1:
        probabilities = jax.nn.softmax(logits, axis=-1)
        likelier = jnp.cumsum(probabilities, axis=-1) - probabilities
        logits = jnp.where(likelier < decoding.top_p, logits, -jnp.inf)
    drawn = draw(keys, logits)
    return jnp.take_along_axis(tokens, drawn[:, None], axis=-1)[:, 0]


def _sample(step, ends, logits, cache, decoding, rows):
    """Greedy search and sampling: one sequence a row."""
    batch, length = logits.shape[0], decoding.max_length
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(decoding.seed), rows)

    def choose(index, logits, ids, scores, done):
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        token = _choose(logits, own, decoding).astype(jnp.int32)
        log_probability = jnp.take_along_axis(jax.nn.log_softmax(logits), token[:, None], axis=-1)[
            :, 0
        ]
        token = jnp.where(done, 0, token)
        scores = scores + jnp.where(done, 0.0, log_probability)
        return ids.at[:, index].set(token), scores, done | ends(token)

    def body(carry):
        index, ids, scores, done, cache = carry
        logits, cache = step(ids[:, index - 1], cache, index)
        return (index + 1, *choose(index, logits, ids, scores, done), cache)

    start = (jnp.zeros((batch, length), jnp.int32), jnp.zeros(batch), jnp.zeros(batch, bool))
    carry = (jnp.int32(1), *choose(0, logits, *start), cache)
    _, ids, scores, _, _ = jax.lax.while_loop(
        lambda c: (c[0] < length) & ~jnp.all(c[3]), body, carry
    )
    return ids, scores


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Beams:
    """Live beams (no end yet) and finished ones, both best first, [batch, beams, ...]."""

    live_scores: Array
    live_ids: Array
    done_scores: Array  # divided by the length penalty
    done_ids: Array
    open: Array  # [batch, 1], whether a live beam may still enter the finished ones


def _penalty(length: int | Int[Array, ""], decoding: Decoding) -> float | Float[Array, ""]:
    """What the log-probability of `length` tokens, the end included, is divided by."""
    base = length * 1.0 if decoding.beam_search == "huggingface" else (5.0 + length) / 6.0
    return base**decoding.length_penalty


def _take(tree: Any, beams: Int[Array, "batch k"], axis: int = 0) -> Any:
    """Picks beams of every leaf [..., batch, beams, ...], whose batch is this axis."""

    def take(x):
        places = beams.reshape((1,) * axis + beams.shape + (1,) * (x.ndim - 2 - axis))
        return jnp.take_along_axis(x, places, axis=axis + 1, mode="promise_in_bounds")

    return jax.tree.map(take, tree)


def _split(tree: Any, beams: int, axis: int) -> Any:
    """Every leaf's rows, along this axis, as [batch, beams]."""
    return jax.tree.map(lambda x: x.reshape(*x.shape[:axis], -1, beams, *x.shape[axis + 1 :]), tree)


def _join(tree: Any, axis: int) -> Any:
    """The inverse of `_split`; rows lie on the devices that have the batch's."""
    join = lambda x: x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])  # noqa: E731
    return in_rows(jax.tree.map(join, tree), axis)


def _best(scores: Float[Array, "batch beams vocab"], count: int) -> tuple[Array, Array, Array]:
    """The best extensions of all beams: their scores, beams and tokens [batch, count].

    Each beam's best come first: all beams' scores in one row would be laid out anew. Of equal ones
    the earlier beam's are taken, and of one beam's the smaller ids.
    """
    batch, _, vocab = scores.shape
    each = min(count, vocab)
    best, tokens = by_row(lambda rows: jax.lax.top_k(rows, each), scores)
    best, places = jax.lax.top_k(best.reshape(batch, -1), count)
    tokens = jnp.take_along_axis(tokens.reshape(batch, -1), places, axis=1)
    return best, places // each, tokens


def _extend(
    state: _Beams, logits: Float[Array, "batch beams vocab"], index, ends, decoding: Decoding
):
    """One step of all beams; returns the new state and from which old beam each live one comes."""
    beams = logits.shape[1]
    scores = state.live_scores[..., None] + jax.nn.log_softmax(logits)
    # Twice as many candidates as beams: however many of them end here, enough live on.
    best, parents, tokens = _best(scores, 2 * beams)
    ids = jax.lax.dynamic_update_slice_in_dim(
        _take(state.live_ids, parents), tokens[..., None].astype(jnp.int32), index, axis=2
    )
    ended = finished = ends(tokens)
    length, hopeful_length = index + 1, decoding.max_length
    if decoding.beam_search == "huggingface":
        hopeful_length = length
        finished = (ended | (length == decoding.max_length)) & (jnp.arange(2 * beams) < beams)
    live_scores, live = jax.lax.top_k(jnp.where(ended, NEVER, best), beams)
    done_scores = jnp.where(finished & state.open, best / _penalty(length, decoding), NEVER)
    done_scores = jnp.concatenate([state.done_scores, done_scores], axis=1)
    done_ids = jnp.concatenate([state.done_ids, ids], axis=1)
    done_scores, done = jax.lax.top_k(done_scores, beams)
    hope = live_scores[:, :1] / _penalty(hopeful_length, decoding)
    still_open = state.open & (hope > done_scores[:, -1:])
    ids, done_ids = _take(ids, live), _take(done_ids, done)
    return _Beams(live_scores, ids, done_scores, done_ids, still_open), _take(parents, live)


def _beam_search(step, ends, logits, cache, decoding, axis=0):
    """Beam search with separate live and finished beams; `axis` is the cache's batch."""
    batch = logits.shape[0]
    beams, length = decoding.beams, decoding.max_length
    # At the start all beams are the same one: only the first may be extended.
    live = jnp.tile(jnp.where(jnp.arange(beams) == 0, 0.0, NEVER), (batch, 1))
    ids = jnp.zeros((batch, beams, length), jnp.int32)
    state = _Beams(live, ids, jnp.full((batch, beams), NEVER), ids, jnp.ones((batch, 1), bool))
    logits = jnp.repeat(logits[:, None], beams, axis=1)
    state, parents = _extend(state, logits, 0, ends, decoding)
    cache = in_rows(jax.tree.map(lambda x: jnp.repeat(x, beams, axis=axis), cache), axis)

    def going(carry):
        index, state, _ = carry
        return (index < length) & jnp.any(state.open)

    def body(carry):
        index, state, cache = carry
        last = jax.lax.dynamic_index_in_dim(state.live_ids, index - 1, axis=2, keepdims=False)
        logits, cache = step(last.reshape(-1), cache, index)
        state, parents = _extend(state, _split(logits, beams, 0), index, ends, decoding)
        cache = _take(_split(cache, beams, axis), parents, axis)
        return index + 1, state, _join(cache, axis)

    _, state, _ = jax.lax.while_loop(going, body, (jnp.int32(1), state, cache))
    # A row where nothing finished answers with its live beams.
    none = jnp.all(state.done_scores <= NEVER / 2, axis=1, keepdims=True)
    scores = jnp.where(none, state.live_scores, state.done_scores)
    return jnp.where(none[..., None], state.live_ids, state.done_ids), scores
