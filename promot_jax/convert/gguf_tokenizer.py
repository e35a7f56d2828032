"""The tokenizer of a GGUF file, made from its tables, as Hugging Face's tokenizer.json.

Two kinds are known. `gpt2` is byte-level BPE: tokens spelt in GPT-2's alphabet of bytes, merges,
and the name of what splits text into words. `llama` is a SentencePiece model: tokens and their
scores, which imply the merges, best score first; Gemma's scores do not follow its merges, the order
of its tokens does. Ids are those that Transformers make of the same file.

Tokens of control, and those that somebody added, are found in text before anything else. BOS stands
in front where the file says so, and where it says nothing and llama.cpp puts it there.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    normalizers,
    pre_tokenizers,
    processors,
)
from tokenizers.models import BPE

from promot_jax import vocabularies
from promot_jax.errors import UserError, near

SPACE = "▁"  # SentencePiece's
CONTROL, ADDED = 3, 4  # llama.cpp's types of tokens
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
# What splits text into words, by its name in the file; None is GPT-2's own pattern.
WORDS = {
    "default": None,
    "gpt-2": None,
    "smollm": None,
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
    "llama-bpe": LLAMA3,
    "qwen2": QWEN,
    "deepseek-r1-qwen": QWEN,
}
LLAMA3_NAMES = tuple(name for name, words in WORDS.items() if words == LLAMA3)
# Where a chat template ends turns with one of them, it ends an output as EOS does.
TURN_ENDS = ("<|eot_id|>", "<|im_end|>", "<end_of_turn>")
STOPS = ("eos_token_id", "eot_token_id", "eom_token_id")


class _Tables:
    """A file's tables of its tokenizer, checked."""

    def __init__(self, told: Mapping[str, Any], where: str):
        self.told, self.where = told, where
        self.tokens = self.table("tokens", str, None)
        self.types = self.table("token_type", int, len(self.tokens)) or [1] * len(self.tokens)

    def get(self, name: str, default: Any = None) -> Any:
        return self.told.get(f"tokenizer.ggml.{name}", default)

    def refuse(self, name: str, why: str) -> UserError:
        return UserError(
            f"{self.where!r} has tokenizer.ggml.{name} = {self.get(name)!r:.80}: {why}"
        )

    def table(self, name: str, kind: type, length: int | None) -> list:
        """A list; empty where there is none, but for tokens."""
        found = self.get(name, [])
        if not isinstance(found, list) or not all(isinstance(x, kind) for x in found[:1]):
            raise self.refuse(name, "it must be a list: convert the model again")
        if length is None and not found:
            raise UserError(f"{self.where!r} has no tokenizer.ggml.{name}: convert the model again")
        if length is not None and found and len(found) != length:
            raise UserError(
                f"{self.where!r} has {length} tokens, and {len(found)} of tokenizer.ggml.{name}:"
                " convert the model again"
            )
        return found

    def id(self, name: str) -> int | None:
        """An id, of a token that there is."""
        found = self.get(name)
        if found is not None and (type(found) is not int or not 0 <= found < len(self.tokens)):
            raise self.refuse(name, f"it must be an id below {len(self.tokens)}")
        return found

    def flag(self, name: str, default: bool) -> bool:
        found = self.get(name, default)
        if not isinstance(found, bool):
            raise self.refuse(name, "it must be true or false")
        return found


def read_tokenizer(told: Mapping[str, Any], rows: int, where: str) -> vocabularies.Tokenizer:
    """The tokenizer that a file's tables describe.

    Args:
      told: what the file says.
      rows: of the embedding table.
      where: for messages.

    Raises:
      UserError: a kind of tokenizer that we lack, tables that do not fit, or no EOS.
    """
    tables = _Tables(told, where)
    if len(tables.tokens) > rows:
        raise UserError(
            f"{where!r} has {len(tables.tokens)} tokens, but the model only {rows} embeddings:"
            " convert the model again"
        )
    kind = tables.get("model")
    if kind not in BUILDERS:
        raise tables.refuse("model", f"only {', '.join(BUILDERS)} are known here")
    if (eos := tables.id("eos_token_id")) is None:
        raise UserError(f"{where!r} has no tokenizer.ggml.eos_token_id: convert the model again")
    pad, bos = tables.id("padding_token_id"), tables.id("bos_token_id")
    begins = tables.flag("add_bos_token", kind == "llama" or tables.get("pre") in LLAMA3_NAMES)
    if begins and bos is None:
        raise UserError(f"{where!r} puts BOS in front of texts, and has no bos_token_id")
    named = {"bos": bos, "eos": eos, "pad": eos if pad is None else pad}
    named |= {"unk": tables.id("unknown_token_id")}
    tokens = {f"{name}_token": tables.tokens[i] for name, i in named.items() if i is not None}
    tokenizer = BUILDERS[kind](tables)
    _add(tokenizer, tables, tokens.values())
    if begins:
        tokenizer.post_processor = _begin(tables.tokens[bos], bos)
    template = told.get("tokenizer.chat_template")
    template = template if isinstance(template, str) else None
    special = vocabularies.SpecialIds(
        bos_id=bos if begins else None,
        eos_id=eos,
        pad_id=named["pad"],
        stop_ids=_stops(tables, template),
        tokens=tokens,
    )
    return vocabularies.Tokenizer(tokenizer.to_str().encode(), special, template)


def _stops(tables: _Tables, template: str | None) -> tuple[int, ...]:
    """What ends an output."""
    found = [tables.id(name) for name in STOPS]
    if template is not None:
        ends = {end for end in TURN_ENDS if end in template}
        pairs = enumerate(zip(tables.tokens, tables.types, strict=True))
        found += [i for i, (token, kind) in pairs if kind == CONTROL and token in ends]
    return tuple(dict.fromkeys(i for i in found if i is not None))


def _byte_level(tables: _Tables) -> Tokenizer:
    """Byte-level BPE."""
    pre = tables.get("pre", "default")
    if pre not in WORDS:
        raise tables.refuse("pre", f"only {', '.join(WORDS)} are known here{near(str(pre), WORDS)}")
    vocab = {token: i for i, token in enumerate(_spelt(tables))}
    merges = [tuple(pair.split(" ")) for pair in tables.table("merges", str, None)]
    # Llama 3's words that are tokens are taken whole, whether or not merges lead there
    model = _bpe(tables, vocab, merges, ignore_merges=pre in LLAMA3_NAMES)
    tokenizer = Tokenizer(model)
    words = WORDS[pre]
    if words is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        steps = [
            pre_tokenizers.Split(Regex(words), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _spelt(tables: _Tables) -> list[str]:
    """The tokens, those of plain text in the alphabet of bytes: some files have characters."""
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str
    return [
        token
        if kind in (CONTROL, ADDED) or alphabet.issuperset(token)
        else "".join(part for part, _ in spell(token))
        for token, kind in zip(tables.tokens, tables.types, strict=True)
    ]


def _sentencepiece(tables: _Tables) -> Tokenizer:
    """A SentencePiece model with bytes for what it has no token for."""
    gemma = str(tables.told["general.architecture"]).startswith("gemma")
    tokens = tables.tokens
    if gemma:  # its runs of spaces are written as spaces
        tokens = [SPACE * len(t) if t and not t.strip(" ") else t for t in tokens]
    vocab = {token: i for i, token in enumerate(tokens)}
    if tables.get("merges"):
        merges = [tuple(pair.split(" ")) for pair in tables.table("merges", str, None)]
    elif gemma:
        merges = _merges(vocab, {token: -i for token, i in vocab.items()})
    else:
        scores = tables.table("scores", float, len(tokens))
        if not scores:
            raise UserError(f"{tables.where!r} has neither merges nor scores of its tokens")
        merges = _merges(vocab, dict(zip(tokens, scores, strict=True)))
    unknown = tables.id("unknown_token_id")
    unk = {"unk_token": tokens[unknown]} if gemma and unknown is not None else {}
    tokenizer = Tokenizer(_bpe(tables, vocab, merges, fuse_unk=True, byte_fallback=True, **unk))
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if gemma:
        tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    else:
        first = tables.flag("add_space_prefix", True)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement=SPACE, prepend_scheme="first" if first else "never", split=False
        )
        steps += [decoders.Strip(content=" ", left=1)] if first else []
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


BUILDERS = {"gpt2": _byte_level, "llama": _sentencepiece}


def _merges(vocab: Mapping[str, int], scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """All pairs of tokens that make a token, the best score first, then the longest left part."""
    found = [
        (-score, -cut, cut - len(token), token[:cut], token[cut:])
        for token, score in scores.items()
        for cut in range(1, len(token))
        if token[:cut] in vocab and token[cut:] in vocab
    ]
    found.sort(key=lambda merge: merge[:3])
    return [merge[3:] for merge in found]


def _bpe(
    tables: _Tables, vocab: dict[str, int], merges: Sequence[tuple[str, ...]], **settings: Any
) -> BPE:
    try:
        return BPE(vocab=vocab, merges=list(merges), **settings)
    except Exception as error:  # the package has no type of its own
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{tables.where!r}: its tokenizer's tables do not fit ({reason}): convert the model"
            " again"
        ) from error


def _add(tokenizer: Tokenizer, tables: _Tables, named: Iterable[str]) -> None:
    """Has tokens of control, those that were named, and added ones found whole in text."""
    pairs = list(zip(tables.tokens, tables.types, strict=True))
    special = dict.fromkeys([*(token for token, kind in pairs if kind == CONTROL), *named])
    known = lambda token: tokenizer.token_to_id(token) is not None  # noqa: E731
    added = [token for token, kind in pairs if kind == ADDED and token not in special]
    tokenizer.add_special_tokens(
        [AddedToken(x, normalized=False, special=True) for x in special if known(x)]
    )
    tokenizer.add_tokens([AddedToken(x, normalized=False) for x in added if known(x)])


def _begin(bos: str, bos_id: int) -> processors.TemplateProcessing:
    """Puts BOS in front of what Transformers encode."""
    return processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, bos_id)]
    )
