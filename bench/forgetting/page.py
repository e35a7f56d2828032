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

from bench.forgetting import alignment as gradients
from bench.forgetting import analysis, explain, front, rows
from bench.forgetting import costs as counted
from bench.forgetting.analysis import RELATED
from bench.forgetting.plan import NAMED, TARGETS
from bench.forgetting.statistics import SHARES, Difference
from bench.starting import start
from promot_jax.console import say
from promot_jax.errors import UserError

PAGE, PROSE = Path("docs/forgetting.md"), Path("bench/forgetting/page.md")
MADE = (
    "<!-- Made by `python -m bench.forgetting.page` of bench/forgetting/page.md and of the rows of"
    " all runs: change those. -->\n\n"
)
IN_WORDS = {"lab_nli": "NLI", "lab_translate_quellan": "translation into Quellan"}
REFERENCE, MIDDLE = "ProMoT", SHARES[1]
ADDITIONS = (f"{REFERENCE} +", f"{REFERENCE}, joint", f"{REFERENCE}, LoRA")
MARK = re.compile(r"^<!-- (\w+) -->$", re.MULTILINE)
NONE = "–"
SHOWN = (0, 25, 50, 100, 200, 400)  # updates, of those at which gradients were compared


class Results:
    """What the sections are made of."""

    def __init__(self, known: Mapping[str, Mapping[str, Any]]):
        every = [row for _, row in sorted(known.items())]
        self.rows = [row for row in every if explain.goes_on_with(row["method"]) is None]
        self.beside = [row for row in every if explain.goes_on_with(row["method"]) is not None]
        self.points = analysis.points(self.rows)
        self.bases = analysis.bases(self.rows)
        self.targets = [t for t in TARGETS if any(where == t for where, _ in self.points)]
        self.read = {
            (target, share): analysis.readings(self.points, target, share)
            for target in self.targets
            for share in SHARES
        }

    def needs(self, method: str) -> str:
        """What a method, or what stands behind its training, needs."""
        if method in NAMED:
            return NAMED[method].needs
        return next(m.needs for m in NAMED.values() if method in m.sweeps.values())

    def pairs(self, target: str) -> int:
        """How many (base, seed) of a target there are."""
        return len(
            {pair for (where, _), of in self.points.items() if where == target for pair in of}
        )


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
    there = {row["method"] for row in [*results.rows, *results.beside]}
    if lacking := [name for name in NAMED if name not in there]:
        yield f"- not run yet: {'; '.join(lacking)}."
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


def matched(results: Results) -> Iterator[str]:
    """The tables at equal target score."""
    for target in results.targets:
        every = results.read[target, MIDDLE]
        tested = analysis.against(every, REFERENCE)
        order = sorted(every, key=lambda name: -_mean(every[name]))
        yield f"**{IN_WORDS[target]}**"
        yield ""
        heads = [f"kept at {share:.0%}" for share in SHARES]
        names = ["method", *heads, f"related at {MIDDLE:.0%}", f"format at {MIDDLE:.0%}"]
        names += [f"less than {REFERENCE} at {MIDDLE:.0%}", "p (Holm)", "reached", "needs"]
        yield f"| {' | '.join(names)} |"
        yield "|---|" + "---:|" * 8 + "---|"
        for method in order:
            cells = [method, *(_kept(results.read[target, s].get(method, {})) for s in SHARES)]
            reached = [each for each in every[method].values() if each is not None]
            cells += [_average(reached, "related"), _average(reached, "format", "{:.1%}")]
            cells += _tested(tested.get(method))
            cells += [f"{len(reached)} of {len(every[method])}", results.needs(method)]
            yield f"| {' | '.join(cells)} |"
        yield ""


def _mean(readings: Mapping[Any, analysis.Reading | None]) -> float:
    reached = [each.kept for each in readings.values() if each is not None]
    return float(np.mean(reached)) if reached else -1.0


def _kept(readings: Mapping[Any, analysis.Reading | None]) -> str:
    found = analysis.mean_of(readings)
    if found is None:
        return "not reached" if readings else NONE
    if found.low is None:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} ({max(found.low, 0):.2f}–{min(found.high, 1):.2f})"


def _average(reached: Sequence[analysis.Reading], name: str, how: str = "{:.3f}") -> str:
    return how.format(np.mean([getattr(each, name) for each in reached])) if reached else NONE


def _tested(found: tuple[Difference, float | None] | None, sign: int = -1) -> list[str]:
    """A difference, or with -1 the other way round, with its interval; and p."""
    if found is None:
        return [NONE, NONE]
    made, p = found
    mean = f"{sign * made.mean:+.3f}"
    if made.low is None:
        return [mean, NONE]
    low, high = sorted((sign * made.low, sign * made.high))
    return [f"{mean} ({low:+.2f} to {high:+.2f})", f"{p:.2g}"]


def added(results: Results) -> Iterator[str]:
    """What is kept more with something added to ProMoT, or changed in it, at each level."""
    for target in results.targets:
        every = {share: results.read[target, share] for share in SHARES}
        names = [name for name in every[MIDDLE] if name.startswith(ADDITIONS)]
        made = {
            (name, share): analysis.difference(readings[name], readings[REFERENCE])
            for share, readings in every.items()
            for name in names
        }
        tested = [key for key, found in made.items() if found is not None and found.p is not None]
        p = dict(zip(tested, analysis.holm([made[key].p for key in tested]), strict=True))
        yield f"**{IN_WORDS[target]}**"
        yield ""
        heads = (f"more at {share:.0%} | p" for share in SHARES)
        yield f"| added to ProMoT | {' | '.join(heads)} | keeps more with | pairs |"
        yield "|---|" + "---:|" * (2 * len(SHARES) + 2)
        for name in names:
            of = [(made[name, share], p.get((name, share))) for share in SHARES]
            cells = [cell for each in of for cell in _tested(each if each[0] else None, sign=1)]
            pairs = "/".join(str(each.pairs if each else 0) for each, _ in of)
            ahead = "/".join(str(_ahead(every[share], name)) for share in SHARES)
            what = name.removeprefix(REFERENCE).lstrip(" +,")
            yield f"| {what} | {' | '.join(cells)} | {ahead} | {pairs} |"
        yield ""


def _ahead(every: Mapping[str, Mapping[Any, analysis.Reading | None]], name: str) -> int:
    """With how many pairs a method keeps more than ProMoT, of those with which both reach."""
    ours, theirs = every.get(name, {}), every[REFERENCE]
    both = [pair for pair in ours if ours[pair] is not None and theirs.get(pair) is not None]
    return sum(ours[pair].kept > theirs[pair].kept for pair in both)


def ends(results: Results) -> Iterator[str]:
    """Every method at the end of its training, at each of its settings."""
    for target in results.targets:
        yield f"**{IN_WORDS[target]}**"
        yield ""
        yield "| method | settings | target | held out | related | lost | won | format | runs |"
        yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
        for (method, knobs), found in _last_points(results, target).items():
            changes = [
                analysis.changes(point, results.bases[target, base])
                for base, point in found
                if (target, base) in results.bases
            ]
            lost, won = np.mean(changes, axis=0) if changes else (np.nan, np.nan)
            means = [
                np.mean([of(point) for _, point in found])
                for of in (
                    lambda p: p.test[p.scored].mean(),
                    lambda p: p.held_out().mean(),
                    lambda p: p.rows_of(RELATED).mean(),
                )
            ]
            scores = " | ".join(f"{value:.3f}" for value in means)
            share = np.mean([point.format for _, point in found])
            yield (
                f"| {method} | {knobs} | {scores} | {lost:.1%} | {won:.1%} | {share:.1%} |"
                f" {len(found)} |"
            )
        yield ""


def _last_points(results: Results, target: str) -> dict[tuple[str, str], list]:
    """(method, settings) -> base and last point of each pair; without ways back."""
    last: dict[tuple, tuple[int, analysis.Point]] = {}
    for (where, method), pairs in results.points.items():
        for pair, every in pairs.items() if where == target else ():
            for point in (each for each in every if "coefficient" not in each.about):
                about = dict(point.about)
                step, stage = about.pop("step"), about.pop("stage")
                key = (method, _settings(about), pair)
                if key not in last or (stage, step) >= last[key][0]:
                    last[key] = ((stage, step), point)
    found: dict[tuple[str, str], list] = {}
    for (method, knobs, pair), (_, point) in last.items():
        found.setdefault((method, knobs), []).append((pair[0], point))
    return found


def _settings(about: Mapping[str, Any]) -> str:
    short = {"LEARNING_RATE": "rate"}
    said = (f"{short.get(name, name.lower())} {value}" for name, value in about.items())
    return ", ".join(said) or NONE


def ladder(results: Results) -> Iterator[str]:
    """What explains ProMoT, on the first target, of whose ladder there are runs."""
    for target in results.targets[:1]:
        readings = {share: results.read[target, share] for share in SHARES}
        yield from explain.ladder(readings, [r for r in results.rows if r["target"] == target])


def budgets(results: Results) -> Iterator[str]:
    """What was spent, and what is kept."""
    for target in results.targets:
        yield f"**{IN_WORDS[target]}**"
        yield ""
        yield from explain.budgets([r for r in results.rows if r["target"] == target])
        yield ""


def predictors(results: Results) -> Iterator[str]:
    """What predicts what is kept."""
    for target in results.targets:
        yield f"**{IN_WORDS[target]}**"
        yield ""
        yield from explain.predictors([r for r in results.rows if r["target"] == target])
        yield ""


def recovery(results: Results) -> Iterator[str]:
    """What a few rows of one skill bring back of the others, on the first target."""
    bases = {base: point for (_, base), point in results.bases.items()}
    yield from explain.recovery(_beside(results, "recovery"), bases)


def noise(results: Results) -> Iterator[str]:
    """How exact the prompt has to be, on the first target."""
    yield from explain.noise(_beside(results, "noise"))


def _beside(results: Results, what: str) -> list[Mapping[str, Any]]:
    """Rows of the first target that went on with something."""
    return [
        row
        for row in results.beside
        if row["target"] in results.targets[:1] and explain.goes_on_with(row["method"]) == what
    ]


def costs(results: Results) -> Iterator[str]:
    """FLOPs and memory of each method's training, in units of plain fine-tuning's."""
    known = counted.read()
    unit = known.get("fine-tuning")
    if unit is None:
        yield "Not counted yet: `python -m bench.forgetting.costs`."
        return
    yield "| method | FLOPs | memory of a step | needs |"
    yield "|---|---:|---:|---|"
    for method, cost in known.items():
        shares = (f"{cost[name] / unit[name]:.2f}" for name in ("flops", "bytes"))
        yield f"| {method} | {' | '.join(shares)} | {results.needs(method)} |"


def alignment(results: Results) -> Iterator[str]:
    """Gradients of true and of shuffled labels, over the updates: means over seeds."""
    del results
    found = gradients.read()
    if not found:
        yield "Not measured yet: `python -m bench.forgetting.alignment`."
        return
    yield "| method | updates | shuffled with true | true with true | norms | seeds |"
    yield "|---|---:|---:|---:|---:|---:|"
    for method in dict.fromkeys(each["method"] for each in found):
        curves = [each["points"] for each in found if each["method"] == method]
        for at in zip(*curves, strict=True):
            if at[0]["step"] not in SHOWN:
                continue
            means = (
                np.mean([point[name] for point in at]) for name in ("shuffled", "true", "norms")
            )
            cells = " | ".join(f"{mean:.2f}" for mean in means)
            yield f"| {method} | {at[0]['step']} | {cells} | {len(at)} |"


SECTIONS: Mapping[str, Callable[[Results], Iterator[str]]] = {
    "runs": runs,
    "bases": bases,
    "matched": matched,
    "added": added,
    "ladder": ladder,
    "budgets": budgets,
    "predictors": predictors,
    "recovery": recovery,
    "noise": noise,
    "alignment": alignment,
    "ends": ends,
    "costs": costs,
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
    if not known:
        raise UserError(f"--rows {args.rows!r}: there are no rows: run python -m bench.forgetting")
    results, page = Results(known), Path(args.page)
    prose = PROSE.read_text(encoding="utf-8")
    page.write_text(MADE + filled(prose, results), encoding="utf-8")
    picture = page.with_name(f"{page.stem}_front.png")
    front.draw(results.points, results.targets, picture)
    say(f"{page} and {picture}: made of {len(known)} runs")


if __name__ == "__main__":
    start(main, "bench.forgetting.page")
