"""Decoder-only models as Hugging Face's Transformers describe them: config.json and tensor names.

A family is a row of `families.py`. Both spellings are read: up to version 4 `rope_theta`,
`rope_scaling` and `sliding_window_pattern`, from 5 on `rope_parameters` and `layer_types`. Written
is the older one, which both open.

What config.json asks for and we lack is refused by name. Names of tensors follow from where the
norms lie: `post_attention_layernorm` is the norm before the MLP where norms come before, and the
norm behind the attention elsewhere.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from promot_jax.convert.families import (
    ACTIVATIONS,
    CAPS,
    FAMILIES,
    LAYER_TYPES,
    MULTIMODAL,
    OFF,
    REQUIRED,
    ROPE_FIELDS,
    Family,
)
from promot_jax.errors import UserError
from promot_jax.models.config import LAYERS, ROPE_TYPES, SIZE, DecoderConfig, RopeScaling

EMBEDDING, HEAD = "params/token_embedder/embedding", "params/decoder/logits_dense/kernel"
# Tensors that are no parameters: frequencies that old releases saved, and what sees pictures.
IGNORED = re.compile(
    r".*\.rotary_emb\.inv_freq|(model\.)?(vision_tower|multi_modal_projector)\..*"
    r"|(model\.)?(vision_model|vision_embed_tokens)\..*"
)


class _Reader:
    """config.json's values with the class's defaults, and messages that name them."""

    def __init__(self, values: Mapping[str, Any], family: Family, where: str):
        self.values, self.family, self.where = values, family, where

    def __getitem__(self, name: str) -> Any:
        """A value; null is the class's default, if it has one."""
        value = self.values.get(name)
        return self.family.defaults.get(name) if value is None else value

    def refuse(self, name: str, value: Any, why: str) -> UserError:
        return UserError(f"{self.where!r}: config.json has {name} = {value!r:.80}: {why}")


def settings(values: Mapping[str, Any], where: str) -> DecoderConfig:
    """config.json as our settings; of multimodal models, their text tower's.

    Whether the head is tied is what config.json says; the type of the parameters it does not say.

    Args:
      values: what the file says.
      where: for messages.

    Raises:
      UserError: another type of model, or a setting that we lack.
    """
    values, kind = _text(values, where)
    family = FAMILIES[kind]
    read = _Reader(values, family, where)
    _check_off(read)
    given = _sizes(read)
    theta, local, scaling = _rope(read)
    types, window = _layers(read, given["num_layers"])
    if "local" in types and scaling and not family.local_rope:
        raise read.refuse("rope_scaling", scaling.rope_type, "we lack it in layers with a window")
    heads, eps = given["num_heads"], read["rms_norm_eps"]
    try:
        return DecoderConfig(
            **given,
            **family.switches,
            **{cap: values.get(cap, family.defaults.get(cap)) for cap in family.caps},
            num_kv_heads=heads if (kv := read["num_key_value_heads"]) is None else kv,
            head_dim=given["emb_dim"] // heads if (size := read["head_dim"]) is None else size,
            mlp_activation=_activation(read),
            rms_norm_eps=1e-6 if eps is None else eps,
            rope_theta=theta,
            rope_scaling=scaling,
            local_rope_theta=local,
            layer_types=types,
            sliding_window=window,
            query_pre_attn_scalar=read["query_pre_attn_scalar"] if family.scalar else None,
            logits_via_embedding=_tied(read),
        )
    except UserError as error:
        raise UserError(f"{where!r}: config.json does not make a decoder: {error}") from error


def _text(values: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], str]:
    """The values that are of text, and their model type."""
    kind = values.get("model_type")
    if kind in MULTIMODAL:
        inner = values.get("text_config")
        if not isinstance(inner, Mapping):
            raise UserError(f"{where!r}: config.json lacks text_config: download it again")
        outer = (*OFF, "tie_word_embeddings")
        above = {name: values[name] for name in outer if values.get(name) is not None}
        return {**inner, **above}, MULTIMODAL[kind]
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = ", ".join((*FAMILIES, *MULTIMODAL))
        raise UserError(f"{where!r} is a model of type {kind!r:.80}: only {known} are known")
    return values, kind


def _sizes(read: _Reader) -> dict[str, Any]:
    """The sizes that every file has, by our names."""
    given = {ours: read[theirs] for ours, theirs in REQUIRED.items()}
    if absent := [REQUIRED[ours] for ours, value in given.items() if value is None]:
        raise UserError(f"{read.where!r}: config.json lacks {', '.join(absent)}: download it again")
    for ours, most in {"num_heads": SIZE, "emb_dim": SIZE, "num_layers": LAYERS}.items():
        if type(given[ours]) is not int or not 0 < given[ours] <= most:
            raise read.refuse(REQUIRED[ours], given[ours], f"set a whole number from 1 to {most}")
    return given


def _check_off(read: _Reader) -> None:
    for name, off in (OFF | dict(read.family.off)).items():
        value = read.values.get(name)
        if value is not None and value != off:
            fix = "save the model again, unquantised" if "quant" in name else "we lack this setting"
            raise read.refuse(name, value, f"{fix} (off: {'null' if off is None else off})")


def _tied(read: _Reader) -> bool:
    value = read["tie_word_embeddings"]
    if not isinstance(value, bool | None):
        raise read.refuse("tie_word_embeddings", value, "set true or false")
    return bool(value)


def _activation(read: _Reader) -> str:
    name = read.family.activation
    value = read[name] or "silu"
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise read.refuse(name, value, f"only {', '.join(ACTIVATIONS)} are known")
    return ACTIVATIONS[value]


def _layers(read: _Reader, count: int) -> tuple[tuple[str, ...], int | None]:
    """The kinds of the layers, as few as repeat to all of them, and what local ones see."""
    family, window = read.family, read["sliding_window"]
    types = ["global"] * count
    if family.no_rope:
        types = _no_rope(read, count)
    if family.windows:
        if "max_window_layers" in family.defaults and not read["use_sliding_window"]:
            window = None
        types = _windows(read, count, window)
    period = next(n for n in range(1, count + 1) if types == (types[:n] * count)[:count])
    return tuple(types[:period]), window if "local" in types else None


def _windows(read: _Reader, count: int, window: int | None) -> list[str]:
    """The kinds that `layer_types` names or, in older files, a pattern implies."""
    given = read.values.get("layer_types")
    if given is None and "max_window_layers" in read.family.defaults:  # Qwen
        first = read["max_window_layers"]
        first = first if isinstance(first, int) else count
        return ["local" if window is not None and i >= first else "global" for i in range(count)]
    if given is None:
        every = read["sliding_window_pattern"] or read.values.get("_sliding_window_pattern") or 2
        if not isinstance(every, int) or every < 1:
            raise read.refuse("sliding_window_pattern", every, "it must be a positive whole number")
        return ["local" if (i + 1) % every else "global" for i in range(count)]
    if not isinstance(given, list) or len(given) != count:
        raise read.refuse("layer_types", given, f"name the kind of each of the {count} layers")
    if unknown := [x for x in given if not isinstance(x, str) or x not in LAYER_TYPES]:
        raise read.refuse("layer_types", unknown[0], f"we know {', '.join(LAYER_TYPES)}")
    types = [LAYER_TYPES[x] for x in given]
    if "local" in types and window is None:
        off = "use_sliding_window" if read["sliding_window"] is not None else "sliding_window"
        raise read.refuse(off, read.values.get(off), "layer_types has layers with a window")
    return types


def _no_rope(read: _Reader, count: int) -> list[str]:
    """SmolLM3's list says 1 where a layer has rope; its default leaves every fourth without."""
    given = read.values.get("layer_types")
    if given is not None and given != ["full_attention"] * count:
        raise read.refuse("layer_types", given, "this family's layers have no windows here")
    ropes, every = read.values.get("no_rope_layers"), read["no_rope_layer_interval"]
    if ropes is None:
        every = 4 if every is None else every
        if not isinstance(every, int) or every < 1:
            raise read.refuse("no_rope_layer_interval", every, "it must be a positive whole number")
        ropes = [int((i + 1) % every != 0) for i in range(count)]
    if not isinstance(ropes, list) or len(ropes) < count or set(map(str, ropes)) - {"0", "1"}:
        raise read.refuse("no_rope_layers", ropes, f"it must say 0 or 1 for each of {count} layers")
    return ["global" if rope else "no_rope" for rope in ropes[:count]]


def _rope(read: _Reader) -> tuple[float, float | None, RopeScaling | None]:
    """The base of the rope, that of local layers, and its scaling."""
    local = read["rope_local_base_freq"] if read.family.local_rope else None
    given = read.values.get("rope_parameters")
    for name in ("rope_parameters", "rope_scaling"):
        if not isinstance(read.values.get(name), Mapping | None):
            raise read.refuse(name, read.values[name], "it must be an object")
    given, scaling = dict(given or {}), read.values.get("rope_scaling")
    if read.family.local_rope:
        by_kind = {name: given.pop(name, None) or {} for name in LAYER_TYPES}
        if given:
            raise read.refuse("rope_parameters", given, "it must say which kind of layer it is of")
        inner = by_kind["sliding_attention"]
        local = inner.get("rope_theta", local)
        if _scaling(inner, read) is not None:
            raise read.refuse("rope_parameters", inner, "layers with a window are never scaled")
        given = by_kind["full_attention"] | dict(scaling or {})
    elif nested := set(given) & set(LAYER_TYPES):
        raise read.refuse("rope_parameters", given, f"this family has one rope, not {nested}")
    else:
        given = dict(scaling or given)
    theta = given.get("rope_theta", read["rope_theta"])
    return 10000.0 if theta is None else theta, local, _scaling(given, read)


def _scaling(given: Mapping[str, Any], read: _Reader) -> RopeScaling | None:
    """The scaling that one rope asks for; None for none."""
    kind = given.get("rope_type", given.get("type", "default"))
    if not isinstance(kind, str) or kind not in ROPE_FIELDS:
        known = ", ".join(("default", *ROPE_TYPES))
        raise read.refuse("rope_type", kind, f"we know the rope scalings {known}")
    if given.get("partial_rotary_factor", 1) not in (1, None):
        raise read.refuse("partial_rotary_factor", given["partial_rotary_factor"], "we lack it")
    usual = {"rope_type", "type", "rope_theta", "partial_rotary_factor", *ROPE_FIELDS[kind]}
    if surplus := sorted(set(given) - usual):
        raise read.refuse(
            f"rope scaling's {surplus[0]}", given[surplus[0]], f"the type {kind} has none"
        )
    if kind == "default":
        return None
    fields = {name: given.get(name) for name in ROPE_FIELDS[kind]}
    if kind == "llama3" and fields["original_max_position_embeddings"] is None:
        fields["original_max_position_embeddings"] = read["max_position_embeddings"]
    if absent := [name for name, value in fields.items() if value is None]:
        raise UserError(
            f"{read.where!r}: config.json's rope scaling lacks {', '.join(absent)}: add it"
        )
    try:
        return RopeScaling(kind, **fields)
    except UserError as error:
        raise UserError(f"{read.where!r}: config.json's rope scaling: {error}") from error


def family_of(config: DecoderConfig) -> str:
    """The `model_type` whose class can be this model.

    Raises:
      UserError: none can.
    """
    for kind, family in FAMILIES.items():
        if not _lacks(config, family):
            return kind
    nearest = min(FAMILIES, key=lambda kind: len(_lacks(config, FAMILIES[kind])))
    lacking = ", ".join(
        f"{name} = {getattr(config, name)!r}" for name in _lacks(config, FAMILIES[nearest])
    )
    raise UserError(
        f"no family of Transformers is this model: {nearest}, the nearest, has no {lacking}"
    )


def _lacks(config: DecoderConfig, family: Family) -> list[str]:
    """The fields at which a family's class cannot be this model."""
    plain = {"norm_offset": False, "norm_placement": "before", "qk_norm": None}
    plain |= {"qkv_bias": False, "scale_embeddings": False}
    wanted = plain | dict(family.switches)
    lacking = [name for name, value in wanted.items() if getattr(config, name) != value]
    types = {config.layer_type(i) for i in range(config.num_layers)}
    local = "local" in types
    if ("no_rope" in types and not family.no_rope) or (local and not family.windows):
        lacking.append("layer_types")
    if local and not family.local_rope:
        if config.local_rope_theta not in (None, config.rope_theta):
            lacking.append("local_rope_theta")
        if config.rope_scaling is not None:
            lacking.append("rope_scaling")
    if not family.scalar and config.query_pre_attn_scalar not in (None, config.head_dim):
        lacking.append("query_pre_attn_scalar")
    lacking += [cap for cap in CAPS if cap not in family.caps and getattr(config, cap) is not None]
    if family.divides and config.emb_dim % config.num_heads:
        lacking.append("emb_dim")
    return lacking


def config_json(config: DecoderConfig, dtype: str, model_type: str | None = None) -> dict[str, Any]:
    """Our settings as config.json, without the special ids, which are the vocabulary's.

    Args:
      config: the model.
      dtype: of its numbers.
      model_type: the source's, where there was one; it is followed where its class can be the
        model.

    Raises:
      UserError: no family of Transformers is this model.
    """
    kind = MULTIMODAL.get(model_type, model_type)
    if kind not in FAMILIES or _lacks(config, FAMILIES[kind]):
        kind = family_of(config)
    family = FAMILIES[kind]
    written = {v: k for k, v in reversed(ACTIVATIONS.items())}[config.mlp_activation]
    values = {
        "architectures": [family.architecture],
        "model_type": kind,
        **{theirs: getattr(config, ours) for ours, theirs in REQUIRED.items()},
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        family.activation: written,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": _scaling_json(config.rope_scaling),
        "tie_word_embeddings": config.logits_via_embedding,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "torch_dtype": dtype,
        **{cap: getattr(config, cap) for cap in family.caps},
    }
    if kind == "qwen2":  # its class has biases without saying so
        del values["attention_bias"]
    if family.scalar:
        scalar = config.query_pre_attn_scalar or config.head_dim
        values["query_pre_attn_scalar"] = int(scalar) if scalar == int(scalar) else scalar
    return values | _layers_json(config, family)


def _scaling_json(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    names = ROPE_FIELDS[scaling.rope_type]
    return {"rope_type": scaling.rope_type} | {name: getattr(scaling, name) for name in names}


def _layers_json(config: DecoderConfig, family: Family) -> dict[str, Any]:
    """The kinds of the layers, and what belongs to them."""
    types = [config.layer_type(i) for i in range(config.num_layers)]
    values: dict[str, Any] = {}
    if family.no_rope:
        values["no_rope_layers"] = [int(x != "no_rope") for x in types]
    if family.windows:
        window = config.sliding_window
        if window is None and "max_window_layers" not in family.defaults:
            window = family.defaults["sliding_window"]
        theirs = {"global": "full_attention", "local": "sliding_attention"}
        values |= {"layer_types": [theirs[x] for x in types], "sliding_window": window}
        if "max_window_layers" in family.defaults:
            values |= {"use_sliding_window": "local" in types, "max_window_layers": len(types)}
    if family.local_rope:
        values["rope_local_base_freq"] = config.local_rope_theta or config.rope_theta
    return values


def names(config: DecoderConfig) -> dict[str, str]:
    """Our path -> Transformers' name, for every parameter of a model."""
    table = {EMBEDDING: "model.embed_tokens.weight"}
    for i in range(config.num_layers):
        for ours, theirs in _layer(config):
            table[f"params/decoder/layers_{i}/{ours}"] = f"model.layers.{i}.{theirs}"
    table["params/decoder/decoder_norm/scale"] = "model.norm.weight"
    return table if config.logits_via_embedding else table | {HEAD: "lm_head.weight"}


NORMS = {
    "before": {
        "pre_self_attention": "input_layernorm",
        "pre_mlp": "post_attention_layernorm",
    },
    "after": {
        "post_self_attention": "post_attention_layernorm",
        "post_mlp": "post_feedforward_layernorm",
    },
    "both": {
        "pre_self_attention": "input_layernorm",
        "post_self_attention": "post_attention_layernorm",
        "pre_mlp": "pre_feedforward_layernorm",
        "post_mlp": "post_feedforward_layernorm",
    },
}


def _layer(config: DecoderConfig) -> Iterator[tuple[str, str]]:
    """(our path, their name) inside a layer."""
    for ours, theirs in NORMS[config.norm_placement].items():
        yield f"{ours}_layer_norm/scale", f"{theirs}.weight"
    for ours, letter in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o")):
        yield f"self_attention/{ours}/kernel", f"self_attn.{letter}_proj.weight"
        if config.qkv_bias and ours != "out":
            yield f"self_attention/{ours}/bias", f"self_attn.{letter}_proj.bias"
    if config.qk_norm is not None:
        for letter in "qk":
            yield f"self_attention/{letter}_norm/scale", f"self_attn.{letter}_norm.weight"
    for ours, theirs in (("wi_0", "gate"), ("wi_1", "up"), ("wo", "down")):
        yield f"mlp/{ours}/kernel", f"mlp.{theirs}_proj.weight"


def text_name(name: str) -> str:
    """The name of a tensor of a multimodal model as its text tower alone would have it."""
    name = re.sub(r"^(model\.language_model|language_model\.model)\.", "model.", name)
    return name.removeprefix("language_model.")
