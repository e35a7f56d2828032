"""Tables of the page: methods at equal target score, and at the end of their training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bench.forgetting import analysis, costs
from bench.forgetting.analysis import HELD_OUT, RELATED
from bench.forgetting.explain import NONE, kept, said
from bench.forgetting.plan import OWNERS
from bench.forgetting.results import IN_WORDS, Results
from bench.forgetting.statistics import SHARES, Difference

REFERENCE, PLAIN, MIDDLE = "ProMoT", "fine-tuning", SHARES[1]
# What is tested against ProMoT: all methods of tier 1, whatever they keep.
FAMILY = [name for name, method in OWNERS.items() if method.tier == 1]
ADDITIONS = (f"{REFERENCE} +", f"{REFERENCE}, joint", f"{REFERENCE}, LoRA")


def short(results: Results) -> Iterator[str]:
    """The main methods at a glance: what is kept at equal target score, and the price."""
    known = costs.read()
    heads = [f"kept, {IN_WORDS[target]}" for target in results.targets]
    yield f"| method | {' | '.join(heads)} | FLOPs | needs |"
    yield "|---|" + "---:|" * (len(heads) + 1) + "---|"
    read = [results.read[target, MIDDLE] for target in results.targets]
    at = {name: [each.get(name, {}) for each in read] for name in FAMILY}
    reached = {name: of for name, of in at.items() if any(any(each.values()) for each in of)}
    for name, of in sorted(reached.items(), key=lambda each: -_least(each[1])):
        cost = known.get(name) or known.get(OWNERS[name].name)  # a way back costs nothing
        flops = f"{cost['flops'] / known[PLAIN]['flops']:.1f}" if cost else NONE
        yield f"| {name} | {' | '.join(map(kept, of))} | {flops} | {OWNERS[name].needs} |"


def _least(of: Sequence[Mapping[Any, analysis.Reading | None]]) -> float:
    """What is kept on the target where it is less; nothing where no pair reaches the level."""
    means = [[each.kept for each in pairs.values() if each is not None] for pairs in of]
    return min(float(np.mean(found)) if found else 0.0 for found in means)


def matched(results: Results) -> Iterator[str]:
    """The tables at equal target score; those that only explain are in the ladder."""
    for target in results.targets:
        every = {name: of for name, of in results.read[target, MIDDLE].items() if _chosen(name)}
        tested = analysis.against(every, REFERENCE, FAMILY)
        plain = analysis.against(every, PLAIN, ())
        yield f"**{IN_WORDS[target]}**"
        yield ""
        heads = [f"kept at {share:.0%}" for share in SHARES]
        names = ["method", *heads, f"more than {REFERENCE} at {MIDDLE:.0%}", "p (Holm)"]
        names += [f"more than {PLAIN} at {MIDDLE:.0%}", "related, against the base", "format"]
        names += ["target", "reached", "runs"]
        yield f"| {' | '.join(names)} |"
        yield "|---|" + "---:|" * (len(names) - 1)
        for method in sorted(every, key=lambda name: -_more(tested, name)):
            cells = [method, *(kept(results.read[target, s].get(method, {})) for s in SHARES)]
            cells += [*_tested(tested.get(method)), _tested(plain.get(method))[0]]
            reached = {pair: each for pair, each in every[method].items() if each is not None}
            cells += [_related(results, target, reached), _average(reached, "format", "{:.1%}")]
            cells += [_average(reached, "target"), f"{len(reached)} of {len(every[method])}"]
            yield f"| {' | '.join([*cells, _runs_a_pair(results, target, method)])} |"
        yield ""


def _chosen(name: str) -> bool:
    """Whether it is something to choose: not what only explains ProMoT, and not a stage one."""
    method = OWNERS[name]
    return method.tier < 3 or bool(method.remedies)


def _more(tested: Mapping[str, tuple[Difference, float | None]], name: str) -> float:
    """By what tables are ordered: what is kept more than with ProMoT; last what never is."""
    if name == REFERENCE:
        return 0.0
    return tested[name][0].mean if name in tested else -np.inf


def _related(results: Results, target: str, reached: Mapping[Any, analysis.Reading]) -> str:
    """The related tasks' mean, less the base's own."""
    gained = [
        each.related - results.bases[target, base].rows_of(RELATED).mean()
        for (base, _), each in reached.items()
        if (target, base) in results.bases
    ]
    return f"{np.mean(gained):+.3f}" if gained else NONE


def _runs_a_pair(results: Results, target: str, method: str) -> str:
    """How many runs of a method each pair has, and how many points they are."""
    pairs = results.points[target, method].values()
    knobs = [{_settings(_knobs(point)) for point in points} for points in pairs]
    return f"{max(map(len, knobs))} ({max(map(len, pairs))})"


def _knobs(point: analysis.Point) -> dict[str, Any]:
    ours = ("stage", "step", "coefficient")
    return {name: value for name, value in point.about.items() if name not in ours}


def by_task(results: Results) -> Iterator[str]:
    """What the main methods keep of each task, at equal target score."""
    for target in results.targets:
        yield f"**{IN_WORDS[target]}**"
        yield ""
        yield f"| method | {' | '.join(task.removeprefix('lab_') for task in HELD_OUT)} |"
        yield "|---|" + "---:|" * len(HELD_OUT)
        for method in FAMILY:
            of = results.read[target, MIDDLE].get(method, {}).values()
            reached = [each.by_task() for each in of if each is not None]
            if reached:
                cells = (f"{score:.3f}" for score in np.mean(reached, axis=0))
                yield f"| {method} | {' | '.join(cells)} |"
        yield ""


def _average(reached: Mapping[Any, analysis.Reading], name: str, how: str = "{:.3f}") -> str:
    values = [getattr(each, name) for each in reached.values()]
    return how.format(np.mean(values)) if values else NONE


def _tested(found: tuple[Difference, float | None] | None) -> list[str]:
    """A difference with its interval; and p, where it is tested."""
    if found is None:
        return [NONE, NONE]
    made, p = found
    return [said(made), NONE if p is None else f"{p:.2g}"]


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
            cells = [cell for each in of for cell in _tested(each if each[0] else None)]
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
    heads = ["method", "settings", "target", "without prompt", "held out", "related", "lost", "won"]
    heads += ["format", "KL on held-out rows", "distance", "runs"]
    for target in results.targets:
        yield f"**{IN_WORDS[target]}**"
        yield ""
        yield f"| {' | '.join(heads)} |"
        yield "|---|---|" + "---:|" * (len(heads) - 2)
        for (method, knobs), found in _last_points(results, target).items():
            changes = [
                analysis.changes(point, results.bases[target, base])
                for base, point in found
                if (target, base) in results.bases
            ]
            lost, won = np.mean(changes, axis=0) if changes else (np.nan, np.nan)
            points = [point for _, point in found]
            cells = [
                _at_end(points, lambda p: p.test[p.scored].mean()),
                _at_end(points, lambda p: p.measured.get("plain_score")),
                _at_end(points, lambda p: p.held_out().mean()),
                _at_end(points, lambda p: p.rows_of(RELATED).mean()),
                f"{lost:.1%}",
                f"{won:.1%}",
                _at_end(points, lambda p: p.format, "{:.1%}"),
                _at_end(points, lambda p: p.measured.get("kl", {}).get("held_out")),
                _at_end(points, lambda p: p.measured.get("distance")),
            ]
            yield f"| {method} | {knobs} | {' | '.join(cells)} | {len(found)} |"
        yield ""


def _at_end(points: Sequence[analysis.Point], of: Callable, how: str = "{:.3f}") -> str:
    """A mean over the runs of which it is known, with their number where that is not all."""
    known = [value for value in map(of, points) if value is not None]
    few = f" [{len(known)}]" if len(known) < len(points) else ""
    return how.format(np.mean(known)) + few if known else NONE


def _last_points(results: Results, target: str) -> dict[tuple[str, str], list]:
    """(method, settings) -> base and last point of each pair; without ways back."""
    found: dict[tuple[str, str], list] = {}
    for (where, method), pairs in results.points.items():
        for (base, _), every in pairs.items() if where == target else ():
            last = {_settings(_knobs(p)): p for p in every if "coefficient" not in p.about}
            for knobs, point in last.items():
                found.setdefault((method, knobs), []).append((base, point))
    return found


def _settings(about: Mapping[str, Any]) -> str:
    short = {"LEARNING_RATE": "rate"}
    said = (f"{short.get(name, name.lower())} {value}" for name, value in about.items())
    return ", ".join(said) or NONE
