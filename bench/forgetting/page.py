"""docs/forgetting.md and its picture, from the rows of all runs and nothing else.

    python -m bench.forgetting.page

The prose is written by hand, in bench/forgetting/page.md. A line `<!-- NAME -->` there stands for
the section of that name, which is made here.
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.forgetting import afterwards, explain, front, rows, tables
from bench.forgetting import alignment as gradients
from bench.forgetting import costs as counted
from bench.forgetting.analysis import RELATED
from bench.forgetting.plan import OWNERS
from bench.forgetting.results import IN_WORDS, Results
from bench.forgetting.table import METHODS, PAIRS
from bench.starting import start
from promot_jax.console import say
from promot_jax.errors import UserError

PAGE, PROSE = Path("docs/forgetting.md"), Path("bench/forgetting/page.md")
MADE = (
    "<!-- Made by `python -m bench.forgetting.page` of bench/forgetting/page.md and of the rows of"
    " all runs: change those. -->\n\n"
)
MARK = re.compile(r"^<!-- (\w+) -->$", re.MULTILINE)
SHOWN = (0, 25, 50, 100, 200, 400)  # updates, of those at which gradients were compared


def runs(results: Results) -> Iterator[str]:
    """How many rows there are, and where they come from."""
    count = Counter(row["target"] for row in results.rows)
    for target in results.targets:
        pairs = sorted({(r["base"], r["seed"]) for r in results.rows if r["seed"] is not None
                        and r["target"] == target})  # fmt: skip
        bases = len({base for base, _ in pairs})
        yield (
            f"- {IN_WORDS[target]}: {_many(count[target], 'run')},"
            f" {_many(len(pairs), 'pair')} of a base and a seed ({_many(bases, 'base')})."
        )
    done = len(results.rows) + len(results.beside)
    yield f"- {done} of the table's {results.wanted} runs, those that make bases included."
    there = {row["method"] for row in [*results.rows, *results.beside]}
    if lacking := [method.name for method in METHODS if method.name not in there]:
        yield f"- not run yet: {'; '.join(lacking)}."
    if results.others:
        yield f"- left out: {_many(results.others, 'row')} of runs that are not in the table."
    for name in ("machine", "version"):
        found = sorted({row[name] for row in results.rows})
        yield f"- {name}{'s' * (len(found) > 1)}: {', '.join(f'`{each}`' for each in found)}."


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def bases(results: Results) -> Iterator[str]:
    """What the base models score before any tuning."""
    yield "| base | held out, mean of 8 | related, mean of 4 |"
    yield "|---|---:|---:|"
    seen = {base: point for (_, base), point in sorted(results.bases.items())}
    for base, point in seen.items():
        held, related = point.held_out().mean(), point.rows_of(RELATED).mean()
        yield f"| {base} | {held:.3f} | {related:.3f} |"


def _of_targets(results: Results, section: Callable) -> Iterator[str]:
    for target in results.targets:
        yield f"**{IN_WORDS[target]}**"
        yield ""
        yield from section(results.points, target)
        yield ""


def ladder(results: Results) -> Iterator[str]:
    """What explains ProMoT."""
    yield from _of_targets(results, explain.ladder)


def budgets(results: Results) -> Iterator[str]:
    """What was spent, and what is kept."""
    yield from _of_targets(results, explain.budgets)


def predictors(results: Results) -> Iterator[str]:
    """What predicts what is kept."""
    yield from _of_targets(results, explain.predictors)


def recovery(results: Results) -> Iterator[str]:
    """What a few rows of one skill bring back of the others, on the first target."""
    bases = {base: point for (_, base), point in results.bases.items()}
    yield from afterwards.recovery(_beside(results, "recovery"), bases)


def noise(results: Results) -> Iterator[str]:
    """How exact the prompt has to be, on the first target."""
    yield from afterwards.noise(_beside(results, "noise"))


def _beside(results: Results, what: str) -> list[Mapping[str, Any]]:
    """Rows of the first target that went on with something."""
    return [
        row
        for row in results.beside
        if row["target"] in results.targets[:1] and afterwards.goes_on_with(row["method"]) == what
    ]


def costs(results: Results) -> Iterator[str]:
    """FLOPs, time and memory of each method's training, in units of plain fine-tuning's."""
    known = counted.read()
    unit = known.get("fine-tuning")
    if unit is None:
        yield "Not counted yet: `python -m bench.forgetting.costs`."
        return
    yield "| method | FLOPs | seconds | memory of a step | needs |"
    yield "|---|---:|---:|---:|---|"
    for method, cost in known.items():
        shares = (f"{cost[name] / unit[name]:.2f}" for name in ("flops", "seconds", "bytes"))
        yield f"| {method} | {' | '.join(shares)} | {OWNERS[method].needs} |"


def methods(results: Results) -> Iterator[str]:
    """What each name in the tables stands for."""
    del results
    yield "| method | recipe | remedies behind it | needs | pairs |"
    yield "|---|---|---|---|---|"
    for method in METHODS:
        remedies = ", ".join(f"`{name}`" for name in method.remedies) or "–"
        needs, of = method.needs, PAIRS[method.tier]
        pairs = ", ".join(f"{len(of[target])} {IN_WORDS[target].split()[0]}" for target in of)
        yield f"| {method.name} | `{method.recipe}` | {remedies} | {needs} | {pairs} |"
        for stage, name in method.sweeps.items():
            yield f"| {name} | its stage `{stage}` | | {needs} | {pairs} |"


def alignment(results: Results) -> Iterator[str]:
    """Gradients of true and of shuffled labels, over the updates: means over bases."""
    del results
    found = gradients.read()
    if not found:
        yield "Not measured yet: `python -m bench.forgetting.alignment`."
        return
    names = {"shuffled": "shuffled with true, same inputs", "other": "shuffled with true, others",
             "true": "true with true, others", "norms": "norms"}  # fmt: skip
    yield f"| method | updates | {' | '.join(names.values())} | bases |"
    yield "|---|---:|" + "---:|" * (len(names) + 1)
    for method in dict.fromkeys(each["method"] for each in found):
        curves = [each["points"] for each in found if each["method"] == method]
        for at in zip(*curves, strict=True):
            if at[0]["step"] not in SHOWN:
                continue
            cells = " | ".join(f"{np.mean([point[name] for point in at]):.2f}" for name in names)
            yield f"| {method} | {at[0]['step']} | {cells} | {len(at)} |"


SECTIONS: Mapping[str, Callable[[Results], Iterator[str]]] = {
    "runs": runs,
    "bases": bases,
    "matched": tables.matched,
    "tasks": tables.by_task,
    "added": tables.added,
    "ladder": ladder,
    "budgets": budgets,
    "predictors": predictors,
    "recovery": recovery,
    "noise": noise,
    "alignment": alignment,
    "ends": tables.ends,
    "costs": costs,
    "methods": methods,
    "short": tables.short,
}


def filled(prose: str, results: Results) -> str:
    """Prose with its sections in it.

    Raises:
      UserError: a mark of a name that is none of `SECTIONS`.
    """

    def section(found: re.Match) -> str:
        if found[1] not in SECTIONS:
            raise UserError(f"{PROSE}: mark {found[1]!r} is none of {sorted(SECTIONS)}: correct it")
        return "\n".join(SECTIONS[found[1]](results)).rstrip()

    return MARK.sub(section, prose)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the page and its picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", default=str(rows.ROWS), help=f"default: {rows.ROWS}")
    parser.add_argument("--page", default=str(PAGE), help=f"default: {PAGE}")
    args = parser.parse_args(argv)
    known = rows.read(Path(args.rows))
    results = Results(known)
    if not results.rows:
        raise UserError(f"--rows {args.rows!r}: there are no rows: run python -m bench.forgetting")
    page = Path(args.page)
    prose = PROSE.read_text(encoding="utf-8")
    page.write_text(MADE + filled(prose, results), encoding="utf-8")
    picture = page.with_name(f"{page.stem}_front.png")
    front.draw(results.points, results.targets, picture)
    count = len(results.rows) + len(results.beside)
    say(f"{page} and {picture}: made of {_many(count, 'run')}")


if __name__ == "__main__":
    start(main, "bench.forgetting.page")
