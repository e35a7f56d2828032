"""How long training waits for its data: reading, encoding, the token cache, batches.

    python -m bench.input_pipeline --rows 300000 --source train.jsonl --vocabulary spiece.model

makes a file of so many rows (those of a JSONL file with "en" and "fr", again and again with another
number; without one, of words), and all that training on their translation does before its first
step, and batches. Each line of the table is a process of its own:

    memory    all rows in memory
    make      the token cache is made
    restart   it is there
    packed    it is there, and rows are packed for the first time

Seconds are until the first batch can be made, without Python's imports; so are memory's MiB.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

LAB = "promot_jax/assets/lab/sentencepiece.model"
KINDS = ("memory", "make", "restart", "packed")
BATCHES, BATCH_SIZE = 200, 64


def rows(source: str | None, count: int) -> Iterator[dict[str, str]]:
    """So many rows, all of them different."""
    if source is None:
        words = random.Random(0)
        made = [" ".join(words.choices("to be or not that is the question".split(), k=30))] * 2
        given = [dict(zip(("en", "fr"), made, strict=True))]
    else:
        with open(source, encoding="utf-8") as file:
            given = [json.loads(line) for line in file]
    for i in range(count):
        row, number = given[i % len(given)], i // len(given)
        yield {key: f"{row[key]} ({number})" if number else row[key] for key in ("en", "fr")}


def measure(kind: str, file: str, vocabulary: str, cache: str) -> dict[str, float]:
    """One line of the table, in this process."""
    from promot_jax import data
    from promot_jax.data import batches, files  # noqa: F401  TensorFlow and JAX come with them

    words = data.sentencepiece(vocabulary, extra_ids=100)
    memory, wall, cpu = _peak(), time.monotonic(), time.process_time()
    task = data.file_task(
        "bench", file, file, inputs="Translate English to French: {en}", targets="{fr}"
    )
    train = data.TrainData(task, 384, 256, BATCH_SIZE, packing=kind == "packed")
    where = None if kind == "memory" else cache
    made = data.Batches(train, words, words.vocab_size, cache=where)
    found = {"seconds": time.monotonic() - wall, "cpu": time.process_time() - cpu}
    found |= {"rows": made.report["rows"], "memory": _peak() - memory, "imports": memory}
    wall = time.monotonic()
    for step in range(BATCHES):
        made(step)
    return found | {"rate": BATCHES * BATCH_SIZE / (time.monotonic() - wall), "peak": _peak()}


def _peak() -> float:
    """MiB that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--source", help='JSONL with "en" and "fr"')
    parser.add_argument("--vocabulary", default=LAB, help="a SentencePiece model")
    parser.add_argument("--directory", help="where file and cache lie, and stay")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    for path in filter(None, (args.source, args.vocabulary)):
        if not Path(path).is_file():
            parser.error(f"there is no file {path!r}")
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(args.directory or temporary)
        directory.mkdir(parents=True, exist_ok=True)
        file, cache = directory / f"rows{args.rows}.jsonl", directory / "token_cache"
        if args.measure:
            print(json.dumps(measure(args.measure, str(file), args.vocabulary, str(cache))))
            return
        if not file.exists():
            with file.open("w", encoding="utf-8") as out:
                for row in rows(args.source, args.rows):
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
        _show([_run(kind, directory) for kind in args.kinds])


def _run(kind: str, directory: Path) -> tuple[str, dict[str, float]]:
    again = [
        sys.executable,
        "-m",
        "bench.input_pipeline",
        *sys.argv[1:],
        f"--directory={directory}",
    ]
    done = subprocess.run([*again, f"--measure={kind}"], stdout=subprocess.PIPE, check=True)
    return kind, json.loads(done.stdout.splitlines()[-1])


def _show(found: list[tuple[str, dict[str, float]]]) -> None:
    from promot_jax.console import show

    table = Table(
        "", "rows", "s", "µs a row", "CPU µs a row", "MiB", "peak MiB", "rows/s of batches"
    )
    for kind, line in found:
        each = [1e6 * line[name] / line["rows"] for name in ("seconds", "cpu")]
        table.add_row(
            kind, f"{line['rows']:,}", f"{line['seconds']:.1f}", *(f"{x:.1f}" for x in each),
            *(f"{line[name]:,.0f}" for name in ("memory", "peak", "rate")),
        )  # fmt: skip
    show(table, 100)


if __name__ == "__main__":
    main()
