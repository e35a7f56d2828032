"""What others wrote is text, wherever it is shown: page, pictures, Markdown, terminal, one line."""

import io
import json
import re
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib import image
from report_workdirs import rows_of, write_metrics, write_results, write_samples
from rich.console import Console

from promot_jax.errors import UserError
from promot_jax.report import markdown_table, report, summary
from promot_jax.report.text import clean, label, markdown, one_line

ATTACKS = [
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "\"' onmouseover='alert(1)' x=\"",
    "</td></tr></table><h1>mine</h1>",
    "&lt;b&gt; &amp;#60;",
    "<!-- ",
    "]]> ${title} $title $$",
    "_hidden",
    "$\\frac{1}{$ ^_{",
    "a|b\\|c\nd\r\n| e",
    "[/red] [link=http://x]:smile:",
    "\x1b[31m\x00\x07\x9b",
    "\ud800 \u202egnp.exe \u2028",
    "日本語 🙂 é",
    "%s {0} {x!r}",
    "x" * 3000,
]
# Four in one, for each makes a page.
ATTACKS = [" ".join(ATTACKS[i : i + 4]) for i in range(0, len(ATTACKS) - 1, 4)] + ATTACKS[-1:]
NUMBERED = range(len(ATTACKS))
TAGS = set(
    "html head meta title style body h1 h2 p strong div table thead tbody tr th td span small"
    " figure img figcaption pre em details summary code".split()
)


class Strict(HTMLParser):
    """Collects text, and every tag and attribute that is none of the page's own."""

    def __init__(self):
        super().__init__()
        self.foreign, self.words, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        names = {name for name, _ in attrs} - {
            "lang", "charset", "name", "content", "class", "scope", "style", "alt", "src",
            "data-name",
        }  # fmt: skip
        if tag not in TAGS or names:
            self.foreign.append((tag, attrs))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_comment(self, data):
        self.foreign.append(("comment", data))

    def handle_data(self, data):
        self.words.append(data)


def hostile(folder, text):
    """A work directory in which everything that anybody can name has this name."""
    safe = re.sub(r"[/\x00\ud800]", "-", text)[:80]  # what may be a directory's name
    method, group = f"{text} m", f"{text} g"
    rows = [
        row | {
            "method": method if row["method"] == "promot" else row["method"],
            "task": f"{text} {row['task']}" if row["task"] != "lab_qa" else "lab_qa",
            "metric": f"{text} x",
            "group": row["group"] if row["group"] == "target" else f"{group} {row['group']}",
            "unwritable": 2, "ceiling": 0.9, "too_long": 1, "mean_shots": 0.5,
        }
        for name in ("base", "promot", "finetune")
        for row in rows_of(name)
    ]  # fmt: skip
    for run in (f"{safe} m", "finetune"):
        write_metrics(folder / run / f"1-{safe}")
        write_metrics(folder / run / f"2-{safe}-last")
        for step in (0, 300):
            stage = folder / run / f"2-{safe}-last"
            write_samples(stage, "lab_qa", 0, step, ["a"])
            (path,) = stage.glob(f"samples/*0shot.{step}.jsonl")
            line = {"input": text, "target": f"{text} t", "output": f"{text} o", "score": 0.5}
            path.write_text(f"{json.dumps(line)}\n", encoding="utf-8")
    (folder / run / "config.gin").write_bytes(text.encode(errors="surrogatepass") + b"\xff")
    damaged = folder / f"{safe} m" / f"2-{safe}-last" / "metrics.jsonl"
    with damaged.open("a", encoding="utf-8") as file:
        file.write('{"step": "x"}\n')
    return write_results(folder, rows)


@pytest.mark.parametrize("text", ATTACKS, ids=NUMBERED)
def test_the_page_has_no_tag_that_is_not_its_own(tmp_path, text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = report(str(hostile(tmp_path, text)))
    source = page.read_text(encoding="utf-8")
    seen = Strict()
    seen.feed(source)
    seen.close()
    assert seen.foreign == [] and seen.open == []
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", source)
    words = " ".join(" ".join(seen.words).split())
    shown = one_line(text)
    places = [f"{shown} m", f"{shown} g qa", f"{shown} lab_nli"]
    if len(text) < 1000:  # samples are cut
        places += [f"{shown} t", f"{shown} o"]
    assert [place for place in places if place not in words] == []
    assert "Left out, for it is damaged" in words and "1 of 101 lines" in words
    assert {path.stem for path in tmp_path.glob("*.png")} >= {"forgetting_curve", "tradeoff"}


@pytest.mark.parametrize("text", ATTACKS, ids=NUMBERED)
def test_terminal_and_markdown(tmp_path, text):
    rows = json.loads((hostile(tmp_path, text) / "results.json").read_text(encoding="utf-8"))
    lines = markdown_table(rows).splitlines()
    bare = [re.sub(r"\\.", "", line) for line in lines]
    assert len(lines) == 5 and len({line.count("|") for line in bare}) == 1
    assert not any(re.search(r"[<>`$]", line) for line in bare)
    table, notes = summary(str(tmp_path))
    console = Console(width=200, file=io.StringIO(), markup=False, emoji=False)
    console.print(table, *notes)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800]", console.file.getvalue())
    for note in notes:
        assert "\n" not in note


def test_a_method_that_begins_with_an_underscore_is_in_the_legend(tmp_path):
    """Matplotlib leaves such labels out: the legend would be of the base alone."""
    seen = {}
    for name in ("mine", "_mine"):
        folder = tmp_path / name
        rows = rows_of("base") + [row | {"method": name} for row in rows_of("finetune")]
        report(str(write_results(folder, rows)))
        seen[name] = image.imread(folder / "tradeoff.png")[:45]
    dark = {name: np.argwhere(pixels.min(axis=2) < 0.5)[:, 1] for name, pixels in seen.items()}
    assert dark["_mine"].max() > dark["mine"].max()


def test_texts():
    assert (
        clean("a\r\nb\tc\x00\ud800\u202e")
        == "a\nb\tc\N{REPLACEMENT CHARACTER}" + "\N{REPLACEMENT CHARACTER}" * 2
    )
    assert clean("می\u200cخواهم 👩\u200d💻 12\u202f%") == "می\u200cخواهم 👩\u200d💻 12\u202f%"
    assert one_line(" a\n\n b ") == "a b"
    assert label("_x") == " _x" and len(label("x" * 99)) == 48
    assert markdown("a|b_c _d_ <i> \\ $x$ `") == r"a\|b_c \_d\_ &lt;i&gt; \\ \$x\$ \`"


@pytest.mark.parametrize("text", ATTACKS, ids=NUMBERED)
def test_errors_are_one_line_of_text(tmp_path, text):
    for field in ("value", "n", "step", "method", "group"):
        row = rows_of("base")[0] | {field: [text] if field in ("method", "group") else text}
        write_results(tmp_path, [row])
        with pytest.raises(UserError) as raised:
            report(str(tmp_path))
        said = str(raised.value)
        assert re.fullmatch(r"[\x20-\x7e\xa1-\ud7ff\ue000-\U0010ffff]+", said) and len(said) < 400
