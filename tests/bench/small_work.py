"""What a process of the benchmark does, without any training: a run's row, or no row."""

import sys
from pathlib import Path


def work(files, bindings, workdir, core, drift_from):
    """As `bench.forgetting.work.work`; a run fails where there is a file `<workdir>.broken`."""
    path = Path(workdir)
    path.mkdir(parents=True, exist_ok=True)
    with (path.parent / "begun").open("a", encoding="utf-8") as file:
        file.write(f"{path.name}\n")
    if Path(f"{workdir}.broken").exists():
        Path(f"{workdir}.log").write_text("what went\nwrong\n", encoding="utf-8")
        sys.exit(1)
    (path / "row.json").write_text('{"points": []}', encoding="utf-8")
