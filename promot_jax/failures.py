"""What fails though neither the input nor the program is wrong: a disk, a bucket, memory. In one
line."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator

# What the system calls an error, what it means, and what to do.
DISK = {
    errno.ENOSPC: ("the disk is full", "make room"),
    errno.EDQUOT: ("the disk quota is used up", "make room"),
    errno.EFBIG: ("the file is larger than is allowed here", "raise the limit (ulimit -f)"),
    errno.EIO: ("the disk failed (input/output error)", "check it"),
    errno.ESTALE: ("the network's file system has lost it (stale file handle)", "mount it again"),
    errno.EROFS: ("the disk is read-only", "mount it for writing"),
    errno.ENODEV: ("the disk is gone", "mount it again"),
    errno.ENXIO: ("the disk is gone", "mount it again"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many files are open on this machine", "close programs"),
}
# Of the libraries whose errors are texts: how they say it themselves.
SAID = {os.strerror(number): number for number in DISK} | {
    "RESOURCE_EXHAUSTED: Error writing": errno.ENOSPC,  # TensorStore; XLA's are of memory
    "RESOURCE_EXHAUSTED: Error opening": errno.ENOSPC,
}
MEMORY = {
    "run": (
        "ACCUMULATE = 2 or more, a smaller EVAL_BATCH_SIZE or a MESH of more devices goes on in"
        " this WORKDIR; a smaller BATCH_SIZE or INPUT_LENGTH needs another one where it has scores"
    ),
    "eval": "set a smaller EVAL_BATCH_SIZE or EVAL_INPUT_LENGTH, or a MESH of more devices",
    "infer": "give a smaller --batch_size or --input_length, or a --mesh of more devices",
}
UNFINISHED = ".orbax-checkpoint-tmp"  # in what Orbax calls a checkpoint before it is whole
# Of a bucket, in TensorStore's words: that a request failed, of what object, and what it means.
REQUEST = re.compile(r"http_response_code|curl_code|CURL error|retry attempts failed")
DETAILS = re.compile(r" \[\w+='")  # where what TensorStore says ends
OBJECT = re.compile(r'gs://[^\s"]*[^\s":/]')
BUCKET = {
    "NOT_FOUND": (errno.ENOENT, "there is no such bucket"),
    "PERMISSION_DENIED": (errno.EACCES, "no permission with these credentials"),
    "UNAUTHENTICATED": (errno.EACCES, "no permission with these credentials"),
}
NO_MEMORY = ("RESOURCE_EXHAUSTED", os.strerror(errno.ENOMEM), "can't start new thread")


@contextlib.contextmanager
def writing(path: object) -> Iterator[None]:
    """Gives an OSError the name of the file that is being written, where it has none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def failure(error: BaseException, verb: str) -> str | None:
    """What to do about an error, or what it comes from, that is none of the program; else None.

    `verb`: whose settings are named.
    """
    for each in causes(error):
        failed = each if isinstance(each, OSError) else bucket_failure(each)
        if failed is not None and str(failed.filename).startswith("gs://"):
            return f"{failed.filename}: {failed.strerror}: mend it, and run the command again"
        if found := disk_failure(each) or _memory_failure(each, verb):
            return found
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{error.strerror or error}: mend it, and run the command again"
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, those in it, and those that it comes from."""
    while error is not None:
        yield error
        for part in getattr(error, "exceptions", ()):
            yield from causes(part)
        error = error.__cause__ or error.__context__


def disk_failure(error: BaseException | None) -> str | None:
    """The line of an error of the disk's, or None."""
    if isinstance(error, OSError) and error.errno in DISK:
        number, path = error.errno, error.filename2 or error.filename
    else:
        said = str(error)
        number = next((SAID[text] for text in SAID if text in said), None)
        found = re.search(r'"(/[^"]+)"', said)
        path = found and found[1]
    if number is None:
        return None
    reason, fix = DISK[number]
    where = "" if path is None else f"{str(path).partition(UNFINISHED)[0]}: "
    return f"{where}{reason}: {fix}, and run the command again"


def bucket_failure(error: BaseException) -> OSError | None:
    """The error of an object's of which nothing is known, for a request failed; else None.

    It may be one of TensorStore's, in its words.
    """
    if isinstance(error, OSError):
        ours = str(error.filename).startswith("gs://") and error.errno != errno.ENOENT
        return error if ours else None
    said = DETAILS.split(str(error))[0]
    objects = [*OBJECT.finditer(said)]
    if not objects or not REQUEST.search(str(error)):
        return None
    return bucket_error(said.partition(":")[0], said[objects[-1].end() :], objects[-1][0])


def bucket_error(code: str, said: str, path: str) -> OSError:
    """The error of an object's, by TensorStore's code and what else it says."""
    reason = DETAILS.split(said)[0].strip(" :")[:160]
    return OSError(*BUCKET.get(code, (errno.EREMOTEIO, f"the bucket fails ({reason})")), path)


def _memory_failure(error: BaseException, verb: str) -> str | None:
    said = str(error)
    if not isinstance(error, MemoryError) and not any(text in said for text in NO_MEMORY):
        return None
    fix = MEMORY.get(verb, "use a machine with more, or close other programs")
    return f"out of memory ({said[:120]}): {fix}" if said else f"out of memory: {fix}"
