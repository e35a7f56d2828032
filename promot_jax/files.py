"""Text files that others may have changed: always UTF-8, JSON that is JSON."""

import codecs
import fcntl
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from promot_jax.errors import UserError
from promot_jax.failures import bucket_failure

KINDS = {dict: "a JSON object", list: "a JSON list"}
# UTF-32's mark of little-endian files begins with UTF-16's.
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


# How files begin that are no text, or not yet.
OTHERS = {
    b"PK\x03\x04": "a ZIP archive, as workbooks of Excel are: save it as UTF-8 text",
    b"\x1f\x8b": "compressed (gzip): unpack it",
    b"version https://git-lfs": "Git LFS's pointer to a file: fetch the file (git lfs pull)",
}


def text_lines(file: IO[bytes], name: str) -> Iterator[str]:
    """The lines of a text file with their ends: \\n, \\r\\n or \\r, in any mixture.

    A byte order mark of UTF-8 is left out. The file is read as far as lines are asked for.

    Raises:
      UserError: it is not UTF-8; `name` says what is, the message what it seems to be or the line.
    """
    start = file.read(1024)
    file.seek(0)
    seen = next((kind for mark, kind in MARKS.items() if start.startswith(mark)), None)
    if seen is None and start.count(0) > len(start) / 5:  # every other byte of Latin letters
        seen = "UTF-16LE" if start[1::2].count(0) > start[::2].count(0) else "UTF-16BE"
    if other := next((says for mark, says in OTHERS.items() if start.startswith(mark)), None):
        raise UserError(f"{name} is {other}")
    if seen:
        raise UserError(
            f"{name} is {seen}, not UTF-8: save it as UTF-8 (iconv -f {seen} -t UTF-8 does)"
        )
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    for number, line in enumerate(text, start=1):
        try:
            line.encode()
        except UnicodeEncodeError as error:
            place = len(line[: error.start].encode())
            latin = line[:40].strip().encode(errors="surrogateescape").decode("latin-1")
            raise UserError(
                f"{name}, line {number}: not UTF-8 at byte {place} (in latin-1 it would be"
                f" {latin!r}): save the file as UTF-8"
            ) from error
        yield line
    text.detach()  # the caller closes his file


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
      ValueError: it is no JSON: NaN and Infinity are none, nor what nests too deeply to be read.
    """
    try:
        if isinstance(text, str) and not text.startswith("\ufeff"):
            return _JSON.decode(text)  # json.loads would make a decoder for each text
        return json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_JSON = json.JSONDecoder(parse_constant=_no_number)


def read_json(path: Path, kind: type = dict, fix: str = "restore it") -> Any:
    """A JSON file that holds a `kind`, dict or list.

    Raises:
      FileNotFoundError: there is none.
      UserError: it cannot be read, or holds something else; `fix` says what to do.
      OSError: it lies in a bucket that fails.
    """
    try:
        found = parse_json(path.read_bytes().decode())
        if not isinstance(found, kind):
            raise ValueError(f"it holds no {KINDS[kind].removeprefix('a ')}")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        if bucket_failure(error):
            raise  # nothing is known of the file
        raise UserError(f"{path} is damaged ({error}): {fix}") from error
    return found


def seal(values: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with a checksum of itself, its last field "check": `unseal` sees any change."""
    open_ = {name: value for name, value in values.items() if name != "check"}
    return open_ | {"check": _checksum(open_)}


def unseal(values: Mapping[str, Any]) -> dict[str, Any]:
    """What was sealed.

    Raises:
      ValueError: it is not what was sealed, or never was.
    """
    found = dict(values)
    if found.pop("check", None) != _checksum(found):
        raise ValueError("its checksum is not that of its content")
    return found


def _checksum(values: Mapping[str, Any]) -> str:
    return fingerprint(json.dumps(values, sort_keys=True, ensure_ascii=True).encode())


def fingerprint(content: bytes) -> str:
    """64 bits, in hexadecimal digits, that tell one content from another."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def lock(file: IO, shared: bool = False) -> None:
    """Nobody else has the file until it is closed, or the process ends, however it ends.

    Where a file system knows no locks, nothing is done.

    Raises:
      BlockingIOError: another process has it.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass
