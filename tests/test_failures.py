"""What fails though neither input nor program is wrong: one line, of the verb's own settings."""

import errno
import os

import pytest

from promot_jax.failures import DISK, failure, writing

FULL = OSError(errno.ENOSPC, "No space left on device", "/runs/a[1]/note")
TENSORSTORE = (
    'UNKNOWN: Error opening "zarr" driver: Error writing local file "/runs/x/.zarray": Failed to'
    " write 207 bytes to file 4: Input/output error [os_error_code='5']"
)
SAFETENSORS = (
    'Error while serializing: I/O error: Disk quota exceeded (os error 122) at path "/o/m"'
)


OCDBT = (
    ': Error reading "0" in OCDBT database at gs://b/run/3/state/: Error reading Byte range [0, 1)'
    " of gs://b/run/3/state/d/66: "
)
SPEC = "[tensorstore_spec='{}'] [http_response_code='403']"
BUSY = "All 32 retry attempts failed: Service Unavailable [http_response_code='503']"


@pytest.mark.parametrize(
    ("error", "verb", "says"),
    [
        (FULL, "run", "/runs/a[1]/note: the disk is full: make room"),
        (ValueError(TENSORSTORE), "run", "/runs/x/.zarray: the disk failed (input/output error)"),
        (Exception(SAFETENSORS), "export", "/m: the disk quota is used up: make room"),
        (ValueError('RESOURCE_EXHAUSTED: Error writing "/a/0" in OCDBT'), "run", "/a/0: the disk"),
        (
            ValueError('file: No space left on device: "/x/4.orbax-checkpoint-tmp/state/d"'),
            "run",
            "/x/4: the disk is full: make room",
        ),
        (ExceptionGroup("two", [ValueError("no"), FULL]), "run", "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "run", "/a: Permission denied"),
        (ValueError(f"ABORTED{OCDBT}{BUSY}"), "run", "gs://b/run/3/state/d/66: the bucket fails"),
        (
            ValueError(f"PERMISSION_DENIED{OCDBT}Forbidden {SPEC}"),
            "eval",
            "gs://b/run/3/state/d/66: no permission with these credentials: mend it",
        ),
        (ExceptionGroup("", [OSError(121, "it fails", "gs://b/x")]), "run", "gs://b/x: it fails"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory."),
            "run",
            "BATCH_SIZE",
        ),
        (
            MemoryError(),
            "eval",
            "out of memory: set a smaller EVAL_BATCH_SIZE or EVAL",
        ),
        (
            MemoryError("no"),
            "infer",
            "out of memory (no): give a smaller --batch_size or",
        ),
        (MemoryError(), "import", "out of memory: use a machine with more"),
        (RuntimeError("can't start new thread"), "export", "use a machine with more"),
    ],
)
def test_failures(error, verb, says):
    found = failure(error, verb)
    assert says in found and "\n" not in found
    own = {"run": ["ACCUMULATE"], "eval": ["EVAL_"], "infer": ["--batch"]}
    others = [word for other, words in own.items() if other != verb for word in words]
    assert verb == "run" or not any(word in found for word in others)


@pytest.mark.parametrize("error", [FULL, MemoryError("no"), ValueError(TENSORSTORE)])
def test_however_deep(error):
    """Orbax and JAX raise errors of errors."""
    try:
        try:
            raise error
        except Exception as inner:
            raise ValueError("something failed") from inner
    except ValueError as outer:
        assert failure(outer, "run") == failure(error, "run")


@pytest.mark.parametrize("error", [KeyError("loss"), ValueError("a shape"), AssertionError()])
def test_what_is_wrong_with_the_program_is_no_failure(error):
    assert failure(error, "run") is None
    try:
        open("/nowhere/at/all", encoding="utf-8")  # noqa: SIM115
    except FileNotFoundError:
        try:
            raise error
        except Exception as bug:
            assert failure(bug, "run") is None  # its context was expected


@pytest.mark.parametrize("number", DISK)
def test_a_file_without_a_name_gets_one(number):
    with pytest.raises(OSError) as caught, writing("runs/x/metrics.jsonl"):
        raise OSError(number, os.strerror(number))
    assert failure(caught.value, "run").startswith(f"runs/x/metrics.jsonl: {DISK[number][0]}")
