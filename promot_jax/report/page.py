"""One self-contained page: what was found, the numbers, the pictures, samples, how to do it again.

Each section is a function that returns its HTML, or "" when the work directory lacks what it needs;
nothing on the page is asserted that is not computed from the results.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from promot_jax.report.canvas import looks
from promot_jax.report.files import StageFolder, configs, stage_folders
from promot_jax.report.plots import draw_all
from promot_jax.report.results import BASE, TARGET, Checkpoint, read_rows
from promot_jax.report.samples import comparison
from promot_jax.report.scores import Score
from promot_jax.report.table import Line, Results, number, percent, rate_text, spread
from promot_jax.report.template import PAGE, STYLE

escape = html.escape


def report(workdir: str) -> Path:
    """Writes WORKDIR/report.html and its pictures; returns the page's path.

    Raises: UserError if results.json is missing, empty or malformed.
    """
    root = Path(workdir)
    results = Results(read_rows(root))
    folders = stage_folders(root, results.methods)
    pictures = draw_all(results, folders, root)
    names = dict.fromkeys(row.task for row in results.rows if row.group == TARGET)
    title = f"Tuning on {', '.join(names)}" if names else "Held-out scores"
    body = [
        statement(results),
        *(f'<p class="note">{escape(note)}</p>' for note in results.notes()),
        table(results),
        *sections(results, pictures),
        samples(results, folders),
        reproduce(root),
    ]
    page = root / "report.html"
    text = PAGE.substitute(title=escape(title), style=STYLE, body="\n".join(filter(None, body)))
    page.write_text(text, encoding="utf-8")
    return page


def statement(results: Results) -> str:
    """What came out, a sentence a method."""
    sentences = []
    keys = {r.key for line in results.lines for c in line.finals for r in c.held_rows()}
    if keys:
        tasks, shots = {task for task, _ in keys}, sorted({shots for _, shots in keys})
        sentences.append(
            f"Held out: {_count(len(tasks), 'task')}, with {' and '.join(map(str, shots))}"
            f" {'shot' if shots == [1] else 'shots'}."
        )
    for line in results.shown:
        sentences.append(_sentence(results, line))
    if results.sweep:
        sentences.append("The table has every learning rate.")
    return f"<p>{' '.join(filter(None, sentences))}</p>"


def _sentence(results: Results, line: Line) -> str:
    target, held = line.final(Checkpoint.target), line.final(Checkpoint.held)
    share, kept = line.final(Checkpoint.format_share), results.kept(line)
    parts = []
    if target:
        parts.append(f"scores {number(target.value)} on the target")
    if held:
        of_base = f" ({percent(kept)} of the base model's)" if kept and line.method != BASE else ""
        parts.append(f"{number(held.value)} on held-out tasks{of_base}")
    if share:
        parts.append(f"answers {percent(share.value)} of held-out questions in the target's format")
    rate = f" at learning rate {rate_text(line.learning_rate)}" if results.sweep else ""
    rate = rate if line.learning_rate is not None else ""
    return f"<strong>{escape(line.method)}</strong>{rate}: {', '.join(parts)}." if parts else ""


def table(results: Results) -> str:
    """Method x (target, held-out by group and mean, kept, format share)."""
    columns, color = results.columns(), looks(results.methods)
    kept = {id(line): results.kept(line) for line in results.lines}
    has_kept = any(share is not None for share in kept.values())
    heads = ["method", *["learning rate"] * results.sweep, *(name for name, _ in columns)]
    heads += ["kept"] * has_kept
    rows = []
    for line in results.lines:
        dot = f'<span class="dot" style="background:{color[line.method][0]}"></span>'
        cells = [f'<th scope="row">{dot}{escape(line.method)}</th>']
        cells += [f"<td>{rate_text(line.learning_rate)}</td>"] * results.sweep
        cells += [_cell(line.final(measure), name) for name, measure in columns]
        if has_kept:
            share = kept[id(line)]
            cells.append(f"<td>{'–' if share is None else percent(share)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    return (
        '<h2>Scores</h2>\n<div class="scroll"><table class="scores">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'\n<p class="soft">{_caption(results)}</p>'
    )


def _cell(score: Score | None, name: str) -> str:
    if score is None:
        return "<td>–</td>"
    small = [spread(score)] if spread(score) else []
    small.append(_count(score.seeds, "seed") if score.seeds > 1 else f"n = {score.n}")
    return f"<td>{number(score.value)}{''.join(f'<small>{text}</small>' for text in small)}</td>"


def _caption(results: Results) -> str:
    parts = ["The selected checkpoint of each method's last stage."]
    scores = [line.final(measure) for line in results.lines for _, measure in results.columns()]
    seeds = {score.seeds for score in scores if score}
    if 1 in seeds:
        parts.append("[low, high]: 95 % interval over n test examples.")
    if max(seeds, default=1) > 1:
        parts.append("±: standard deviation over seeds.")
    if results.groups:
        held = [r for line in results.lines for c in line.finals for r in c.held_rows()]
        how = "with prompt if only scored so" if any(r.prompt for r in held) else "no prompt"
        parts.append(
            f"Held-out mean: plain mean over tasks and shots, {how}. Format share: share of"
            " held-out outputs that lie in the target task's answer format."
        )
    if results.guessable:
        parts.append(
            "Chance-adjusted: (score - chance) / (1 - chance), 0 for guessing; the mean gives every"
            " group the same weight."
        )
    if results.base:
        parts.append("Kept: held-out mean as a share of the base model's.")
    return escape(" ".join(parts))


def sections(results: Results, pictures: Mapping[str, Path]) -> list[str]:
    """The pictures that were drawn, each with a heading and how to read it."""
    rates = {line.learning_rate for line in results.shown if line.method != BASE} - {None}
    at = (
        f" Learning rate {rate_text(next(iter(rates)))}."
        if results.sweep and len(rates) == 1
        else ""
    )
    texts = {
        "forgetting_curve": (
            "What is learned and what is forgotten",
            "Scores over the steps of each"
            " method's last stage. Bands: 95 % interval, or ± one standard deviation"
            f" over seeds.{at}",
        ),
        "format_share": (
            "Format specialization",
            f"Share of the answers to held-out tasks that are in the target task's format.{at}",
        ),
        "tradeoff": ("Trade-off", "Up is remembering, right is learning; one point a checkpoint."),
        "learning_rate": ("Learning rates", "The selected checkpoint at each learning rate."),
        "loss": ("Training loss", "Thin: as logged. Thick: running mean."),
    }
    return [
        _figure(*texts[name], path) for name in texts if (path := pictures.get(name)) is not None
    ]


def _figure(heading: str, text: str, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<h2>{escape(heading)}</h2>\n<figure><div class="scroll"><img alt="{escape(heading)}"'
        f' src="data:image/png;base64,{data}"></div><figcaption>{escape(text)}</figcaption>'
        "</figure>"
    )


def samples(results: Results, folders: Sequence[StageFolder]) -> str:
    """The same few held-out inputs, answered before and after each method's last stage."""
    found = comparison(results, folders)
    if found is None:
        return ""
    cards = []
    for item in found.items:
        rows = "".join(
            f'<tr><th scope="row">{escape(method)}</th>{_answer(before)}{_answer(after)}</tr>'
            for method, (before, after) in item.answers.items()
        )
        cards.append(
            f'<div class="sample"><pre>{escape(item.input)}</pre><p class="soft">expected:'
            f" <strong>{escape(item.target)}</strong></p><table><thead><tr><th></th><th>before</th>"
            f"<th>after</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    runs = "; ".join(f"{method}: {origin}" for method, origin in found.origins.items())
    return (
        f"<h2>Samples</h2>\n<p>The first {_count(len(cards), 'example')} of held-out"
        f" {escape(found.task)}, {_count(found.shots, 'shot')}, before and after each method's last"
        f' stage.</p>{"".join(cards)}<p class="soft">{escape(runs)}</p>'
    )


def _answer(answer: tuple[str, float | None] | None) -> str:
    if answer is None:
        return "<td>–</td>"
    text, score = answer
    if score in (1, 100):  # full marks, whatever the metric's scale
        kind, mark = ' class="right"', "✓ "
    elif score == 0:
        kind, mark = ' class="wrong"', "✗ "
    else:
        kind, mark = "", "" if score is None else f"{score:.3g}: "
    return f"<td{kind}>{mark}{escape(text) or '<em>nothing</em>'}</td>"


def reproduce(root: Path) -> str:
    """The configuration that was in force."""
    texts = configs(root)
    if not texts:
        return ""
    blocks = "".join(
        f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>"
        for name, text in texts.items()
    )
    return (
        "<h2>How to reproduce</h2>\n<p>Save the configuration, then run <code>promot run"
        " --gin_file=config.gin --gin.WORKDIR='\"new/directory\"'</code>.</p>" + blocks
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
