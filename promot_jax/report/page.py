"""One self-contained page: what was found, the numbers, the pictures, samples, how to do it again.

Each section is a function that returns its HTML, or "" when the work directory lacks what it needs;
nothing on the page is asserted that is not computed from the results.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table as RichTable

from promot_jax.errors import UserError
from promot_jax.paths import as_path, expand
from promot_jax.report.colors import looks
from promot_jax.report.files import Damage, StageFolder, configs, stage_folders, write_all
from promot_jax.report.grid import Cell, columns, terminal_table, unit
from promot_jax.report.results import Checkpoint
from promot_jax.report.rows import BASE, TARGET
from promot_jax.report.samples import comparison
from promot_jax.report.sources import Source, gather
from promot_jax.report.table import Line, Results
from promot_jax.report.template import PAGE, STYLE
from promot_jax.report.text import clean, count, number, percent, rate_text, shortened

NAME = "report.html"
PICTURES = (*("forgetting_curve", "format_share", "tradeoff", "way_back", "learning_rate", "loss"),)
SAMPLE = 2000  # characters that are shown of an input or output


def escape(text: str) -> str:
    """Text as HTML that is nothing but text, in an element or in an attribute."""
    return html.escape(clean(text))


def report(workdir: str) -> Path:
    """Writes WORKDIR/report.html and its pictures; returns the page's path.

    Raises:
      UserError: there are no results, or malformed ones, or no place to write.
      OSError: it could not be written; an older page is as it was.
    """
    root, source = _gathered(workdir)
    from promot_jax.report.plots import draw_all  # bad input need not wait for Matplotlib

    results, damage = Results(source.rows), Damage(root)
    folders = stage_folders(root, results.methods)
    folders = [folder for folder in folders if folder.run not in source.left_out]
    pictures = draw_all(results, folders, damage)
    body = [
        statement(results),
        "",
        table(results, source.remarks),
        *sections(results, pictures),
        samples(results, folders, damage),
        reproduce(root, damage),
    ]
    notes = [*results.notes(), *source.notes, *damage.notes()]
    body[1] = "\n".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    names = dict.fromkeys(row.task for row in results.rows if row.group == TARGET)
    title = f"Tuning on {', '.join(names)}" if names else "Held-out scores"
    text = PAGE.substitute(title=escape(title), style=STYLE, body="\n".join(filter(None, body)))
    files: dict[str, bytes | None] = {NAME: text.encode()}
    try:
        write_all(root, files | {f"{name}.png": pictures.get(name) for name in PICTURES})
    except PermissionError as error:
        raise UserError(
            f"{workdir!r} cannot be written ({error.strerror}): copy it, and report the copy"
        ) from error
    return root / NAME


def summary(workdir: str) -> tuple[RichTable, list[str]]:
    """What a terminal shows of the page: its table and its notes.

    Raises: UserError as `report`.
    """
    _, source = _gathered(workdir)
    notes = [*Results(source.rows).notes(), *source.notes]
    return terminal_table(source.rows), [clean(note) for note in notes]


def _gathered(workdir: str) -> tuple[Path, Source]:
    root = as_path(expand(workdir))
    return root, gather(root)


def statement(results: Results) -> str:
    """What came out, a sentence a method."""
    sentences = []
    keys = {r.key for line in results.lines for c in line.finals for r in c.held_rows()}
    if keys := results.common or keys:
        tasks, shots = {task for task, _ in keys}, sorted({shots for _, shots in keys})
        sentences.append(
            f"Held out: {count(len(tasks), 'task')}, with"
            f" {' and '.join(filter(None, [', '.join(map(str, shots[:-1])), str(shots[-1])]))}"
            f" {'shot' if shots == [1] else 'shots'}."
        )
    for line in results.shown:
        sentences.append(_sentence(results, line))
    if results.sweep:
        sentences.append("The table has every learning rate.")
    return f"<p>{' '.join(filter(None, sentences))}</p>"


def _sentence(results: Results, line: Line) -> str:
    target, held = line.final(Checkpoint.target), line.final(results.compared(Checkpoint.held))
    share = line.final(results.compared(Checkpoint.format_share))
    kept = results.kept(line)
    parts = []
    if target:
        parts.append(f"scores {number(target.value, results.top)} on the target")
    if held:
        of_base = f" ({percent(kept)} of the base model's)" if kept and line.method != BASE else ""
        parts.append(f"{number(held.value, results.top)} on held-out tasks{of_base}")
    if share:
        parts.append(f"answers {percent(share.value)} of held-out questions in the target's format")
    rate = f" at learning rate {rate_text(line.learning_rate)}" if results.sweep else ""
    rate = rate if line.learning_rate is not None else ""
    return f"<strong>{escape(line.method)}</strong>{rate}: {', '.join(parts)}." if parts else ""


def table(results: Results, remarks: Sequence[str]) -> str:
    """A line a method; on a narrow screen a card a method, whose cells have their names."""
    found, color = columns(results), looks(results.methods)
    head = "".join(f'<th scope="col">{escape(column.name)}</th>' for column in found)
    rows = []
    for i, line in enumerate(results.lines):
        dot = f'<span class="dot" style="background:{color[line.method][0]}"></span>'
        cells = [f'<th scope="row">{dot}{escape(line.method)}</th>']
        cells += [_cell(column.name, column.cells[i]) for column in found[1:]]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        '<h2>Scores</h2>\n<div class="scroll"><table class="scores">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'\n<p class="soft">{_caption(results, remarks)}</p>'
    )


def _cell(name: str, cell: Cell) -> str:
    small = "".join(f" <small>{escape(text)}</small>" for text in (cell.spread, cell.of) if text)
    return f'<td data-name="{escape(name)}">{escape(cell.text)}{small}</td>'


def _caption(results: Results, remarks: Sequence[str]) -> str:
    parts = [f"The selected checkpoint of each method's last stage. {unit(results)}", *remarks]
    seeds = {len(line.finals) for line in results.lines}
    if 1 in seeds:
        parts.append("[low, high]: 95 % interval over n test examples.")
    if max(seeds, default=1) > 1:
        parts.append("±: standard deviation over seeds.")
    if results.groups:
        held = [r for line in results.lines for c in line.finals for r in c.held_rows()]
        how = "with prompt if only scored so" if any(r.prompt for r in held) else "no prompt"
        without = sorted({r.method for r in held if r.lora == 0} - {BASE})
        how += f" ({', '.join(without)}: and no LoRA)" if without else ""
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


def sections(results: Results, pictures: Mapping[str, bytes]) -> list[str]:
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
        "way_back": (
            "The way back",
            "Scores over how much of the training is kept: the weights before it on the left, all"
            f" of it on the right. Bands: as above.{at}",
        ),
        "learning_rate": ("Learning rates", "The selected checkpoint at each learning rate."),
        "loss": ("Training loss", "Thin: as logged. Thick: running mean."),
    }
    return [_figure(*texts[name], pictures[name]) for name in texts if name in pictures]


def _figure(heading: str, text: str, png: bytes) -> str:
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<h2>{escape(heading)}</h2>\n<figure><div class="scroll"><img alt="{escape(heading)}"'
        f' src="data:image/png;base64,{data}"></div><figcaption>{escape(text)}</figcaption>'
        "</figure>"
    )


def samples(results: Results, folders: Sequence[StageFolder], damage: Damage) -> str:
    """The same few held-out inputs, answered before and after each method's last stage."""
    found = comparison(results, folders, damage)
    if found is None:
        return ""
    cards = []
    for item in found.items:
        rows = "".join(
            f'<tr><th scope="row">{escape(method)}</th>{_answer(before)}{_answer(after)}</tr>'
            for method, (before, after) in item.answers.items()
        )
        cards.append(
            f'<div class="sample"><pre>{_text(item.input)}</pre><p class="soft">expected:'
            f" <strong>{_text(item.target)}</strong></p><table><thead><tr><th></th><th>before</th>"
            f"<th>after</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    runs = "; ".join(f"{method}: {origin}" for method, origin in found.origins.items())
    return (
        f"<h2>Samples</h2>\n<p>The first {count(len(cards), 'example')} of held-out"
        f" {escape(found.task)}, {count(found.shots, 'shot')}, before and after each method's last"
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
    return f"<td{kind}>{mark}{_text(text) or '<em>nothing</em>'}</td>"


def _text(text: str) -> str:
    """The beginning of a sample."""
    return escape(shortened(text, SAMPLE))


def reproduce(root: Path, damage: Damage) -> str:
    """The configuration that was in force."""
    texts = configs(root, damage)
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
