"""Directories of tokenizers with added tokens, as people's are, each drawn from a number."""

import json
import random
from pathlib import Path
from typing import Any

import hf_models

from promot_jax.convert.tokenizer import write_vocabulary
from promot_jax.vocabularies import SentencePiece

SIZE = 724  # pieces of the lab's SentencePiece model; "e" is 697, "{" 719 and "}" 721 of them
CONTENTS = ["<ent>", "{", "{{", "}", "\n", "é", "½", "<b>", "lo", "\t", "Ａ", "e", " x "]
TEXTS = [
    "a <ent> b", "a<ent>b", "<ent>", "a  <ent>  b <b>", "x {{ y", "x{{y{", "{{{ }", "café é½",
    "  lead {", "trail \n", "a\nb", "lo hello low", "a\tb", "Ａ A", "  \n <ent> \n {", "", " ",
]  # fmt: skip
SENTINELS = ["the <extra_id_0> cat", "<extra_id_1>", "the<extra_id_1>cat"]


def token(content: str, **flags: bool) -> dict[str, Any]:
    """The fields of an added token, as `normalized` ones that `add_tokens` makes of a text."""
    names = ("lstrip", "rstrip", "single_word", "special")
    return {"content": content, "normalized": True} | dict.fromkeys(names, False) | flags


def save(
    directory: Path,
    files: str = "spiece.model tokenizer.json tokenizer_config.json",
    told: dict[str, Any] | None = None,
    listed: list[dict[str, Any]] | None = None,
    sentinels: int = 0,
    **others: Any,
) -> Path:
    """Writes a tokenizer.

    Args:
      directory: where to; made.
      files: which of our export's files.
      told: more for tokenizer_config.json.
      listed: more for tokenizer.json's list, each with an id.
      sentinels: behind the pieces.
      others: more files, by the beginning of their names.
    """
    directory.mkdir(parents=True)
    write_vocabulary(directory, SentencePiece(hf_models.SPIECE.read_bytes(), sentinels))
    for name, more in (("tokenizer_config", told or {}), ("tokenizer", {})):
        path = directory / f"{name}.json"
        values = json.loads(path.read_text(encoding="utf-8")) | more
        if name == "tokenizer":
            values["added_tokens"] += listed or []
        path.write_text(json.dumps(values), encoding="utf-8")
    for name, content in others.items():
        (directory / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    for path in list(directory.iterdir()):
        if path.name not in files.split() and path.stem not in others:
            path.unlink()
    return directory


def draw(directory: Path, seed: int) -> int:
    """Writes the tokenizer of a number; returns for how many embeddings."""
    rng = random.Random(seed)
    sentinels = rng.choice([0, 0, 3, 44])
    flags = lambda: {  # noqa: E731
        name: rng.random() < 0.25
        for name in ("lstrip", "rstrip", "single_word", "special", "normalized")
    }
    tokens = [token(content, **flags()) for content in rng.sample(CONTENTS, rng.randint(1, 4))]
    own, free, ids = {"e": 697, "{": 719, "}": 721}, SIZE + sentinels, {}
    for each in tokens:
        ids[each["content"]] = own.get(each["content"], free)
        free += each["content"] not in own
    by_id = {str(ids[each["content"]]): each for each in tokens}
    how = rng.choice(["config", "tokenizer", "legacy", "both"])
    told = {"added_tokens_decoder": by_id} if how in ("config", "both") else {}
    told |= {"bos_token": "<s>"} if rng.random() < 0.2 else {}
    listed = [{"id": ids[each["content"]], **each} for each in tokens]
    tokenizer = rng.choice(["spiece.model", "tokenizer.json", "spiece.model tokenizer.json"])
    save(
        directory, f"{tokenizer} tokenizer_config.json", told,
        listed if how in ("tokenizer", "both") else None, sentinels,
        **({"added_tokens": ids} if how == "legacy" else {}),
    )  # fmt: skip
    return rng.choice([SIZE + sentinels + 8, 900])
