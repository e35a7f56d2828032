"""One table of what `bench/gpu.sh` measures, from its JSON lines.

python -m bench.gpu_table LINES
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HEAD = ("what", "by", "ms", "examples/s", "tokens/s", "MFU", "GiB", "times as fast")
WANTED = ("examples_per_second", "tokens_per_second", "mfu", "peak_device_gib", "times_as_fast")


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    (path,) = sys.argv[1:] if argv is None else argv
    text = Path(path).read_text(encoding="utf-8")
    print(table(json.loads(line) for line in text.splitlines() if line.startswith("{")))


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """A row a line, in columns; what a line does not say is left empty."""
    lines = list(lines)
    rows = [HEAD, *map(_row, lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = lambda row: "  ".join(map(str.ljust, row, widths)).rstrip()  # noqa: E731
    devices = dict.fromkeys(line["device"] for line in lines if "device" in line)
    return "\n".join([*map(pad, rows), f"on {', '.join(devices) or 'no device'}"])


def _row(line: Mapping[str, Any]) -> tuple[str, ...]:
    packed = f"{line['packed']} a row" if line.get("packed", 1) > 1 else None
    what = (line.get("shape"), line.get("model"), line.get("method") or line.get("work"), packed)
    by = line.get("implementation") or line.get("tool") or ("" if "work" in line else "promot_jax")
    shown = [line.get("ms", line.get("ms_per_step")), *(line.get(name) for name in WANTED)]
    if "left out" in line:
        shown = ["left out", *[None] * len(WANTED)]
    cells = (" ".join(x for x in what if x), by, *shown)
    return tuple("" if cell is None else str(cell) for cell in cells)


if __name__ == "__main__":
    main()
