"""Paths: what a user gives, what ships with the package, and names that files give.

Every path that a user gives goes through here once: a leading `~` is the home directory, a path
that begins like one of what is installed is found from everywhere, `gs://...` lies in a bucket.
What opens, lists, writes or removes takes the object that `as_path` makes of it. Names in files
that we read (a stage, a shard, a prompt) are names, not paths: `check_name`.
"""

import errno
import os
import posixpath
import shutil
from pathlib import Path

from promot_jax.errors import UserError

INSTALLED_AT = Path(__file__).resolve().parent
LONGEST_NAME = 200  # bytes; file systems take 255, and some of ours get an ending
NAME_MAX = 255  # bytes of a name, on nearly all file systems


def expand(path: str, setting: str = "") -> str:
    """A path with its `~`; unchanged, and so the same text, where it has none.

    `setting` named it, for the message.

    Raises:
      UserError: it is no path: it has a NUL character, a name longer than the file system takes, or
        links that go round in a circle.
    """
    if is_url(path):
        return path
    found = os.path.expanduser(path)
    if reason := _why_no_path(found):
        where = f"{setting}: " if setting else ""
        raise UserError(f"{where}{path[:80]!r} is no path ({reason}): give another")
    return found


def _why_no_path(path: str) -> str | None:
    try:
        os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return error.strerror
        # where its directory is not there either, nothing has looked at the last name
        if any(len(os.fsencode(part)) > NAME_MAX for part in Path(path).parts):
            return os.strerror(errno.ENAMETOOLONG)
    except ValueError:  # of a NUL character, or half of a surrogate pair
        return "it has a NUL character" if "\0" in path else "it cannot be written in UTF-8"
    return None


def is_url(path: str) -> bool:
    """Whether a path names a bucket or the like, `gs://...`."""
    return "://" in path


def in_bucket(path: os.PathLike) -> bool:
    """Whether an object of `as_path` lies in a bucket."""
    return is_url(os.fspath(path))


def as_path(path: str | os.PathLike, setting: str = "") -> Path:
    """What opens, lists, writes and removes what a path names: on this file system, or in a bucket.

    `setting` named it, for the message.

    Raises:
      UserError: it names a bucket of another kind, or nothing that a bucket could hold.
    """
    if not is_url(text := os.fspath(path)):
        return Path(path)
    from promot_jax import buckets  # TensorStore, which is not for --help

    if reason := buckets.why_no_path(text):
        where = f"{setting}: " if setting else ""
        raise UserError(
            f"{where}{text[:200]!r} is no path in a bucket ({reason}): give gs://bucket/name"
        )
    return buckets.BucketPath(text)


def real(path: str | os.PathLike) -> str:
    """The one name of what lies there, links followed."""
    return str(as_path(path)) if is_url(os.fspath(path)) else os.path.realpath(path)


def way(start: str | os.PathLike, end: str | os.PathLike) -> str | None:
    """How to come from one directory to another; None from a bucket to a disk, or back."""
    start, end = as_path(start), as_path(end)
    if type(start) is not type(end):
        return None
    if in_bucket(start):
        return posixpath.relpath(end.as_posix()[5:], start.as_posix()[5:])
    return os.path.relpath(end, start)


def along(start: str | os.PathLike, way: str) -> str:
    """Where a way leads."""
    if is_url(text := str(as_path(start))):
        return f"gs:/{posixpath.normpath(posixpath.join(text[4:], way))}"
    return os.path.normpath(os.path.join(os.path.abspath(text), way))


def remove_tree(path: Path, ignore_errors: bool = False) -> None:
    """Removes a directory, if there is one, and all that lies in it."""
    if not in_bucket(path):
        if ignore_errors or path.exists():
            shutil.rmtree(path, ignore_errors=ignore_errors)
        return
    try:
        path.rmtree()
    except OSError:
        if not ignore_errors:
            raise


def resolve(path: str) -> str:
    """A path as given; where nothing lies there, the same path beside or in the installed package.

    So `gin/recipes/promot.gin` and `promot_jax/assets/lab/base` work from every directory; only
    paths that begin so are looked for there. Returns `path`, expanded, where neither exists, for
    the caller's message to name.
    """
    path = expand(path)
    if is_url(path) or Path(path).exists() or not _installed(path):
        return path
    for root in (INSTALLED_AT.parent, INSTALLED_AT):
        if (root / path).exists():
            return str(root / path)
    return path


def absolute(path: str) -> str:
    """A path that `resolve` finds from every directory."""
    if is_url(path):
        return path
    given = Path(path := expand(path))
    roots = (INSTALLED_AT.parent, INSTALLED_AT) if _installed(path) else ()
    if not given.exists() or any((r / path).exists() and given.samefile(r / path) for r in roots):
        return path
    return str(given.absolute())


def check_name(name: object, where: str) -> str:
    """A name that a file gives, of something that lies beside it.

    Raises:
      UserError: it is no plain name, and so could lead out of the directory; `where` says whose.
    """
    if not is_name(name):
        raise UserError(f"{where} {name!r} is no plain name of what lies beside it: restore it")
    return name


def is_name(name: object) -> bool:
    """Whether something is the name of a file or directory, and not a way to another place."""
    if not isinstance(name, str) or not name.isprintable() or set(name) & set("/\\"):
        return False
    return name not in ("", ".", "..") and len(name.encode()) <= LONGEST_NAME


def _installed(path: str) -> bool:
    """Whether a path begins like one of what is installed."""
    return Path(path).parts[:1] in (("gin",), ("promot_jax",))
