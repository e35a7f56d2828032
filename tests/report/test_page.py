"""The page is whole with everything, and still a page with almost nothing."""

import base64
import os
import re
import resource
import shutil
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_workdirs import (
    STEPS,
    demo_workdir,
    rows_of,
    write_metrics,
    write_results,
    write_samples,
)

from promot_jax.errors import UserError
from promot_jax.report import report, summary
from promot_jax.report.files import Damage, loss_curve, stage_folders
from promot_jax.report.results import Checkpoint
from promot_jax.report.table import Results

VOID = {"meta", "img", "br"}
PICTURES = {"forgetting_curve", "format_share", "tradeoff", "loss"}


class Checker(HTMLParser):
    """Raises on tags that do not nest; collects text, headings and addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.words, self.headings, self.addresses = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def read(page) -> Checker:
    checker = Checker()
    checker.feed(page.read_text(encoding="utf-8"))
    checker.close()
    assert checker.open == []
    checker.text = " ".join(" ".join(checker.words).split())
    return checker


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return demo_workdir(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def page(demo):
    return report(str(demo))


def test_page_with_everything(demo, page):
    assert page == demo / "report.html"
    assert {path.stem for path in demo.glob("*.png")} == PICTURES
    seen = read(page)
    for heading in ("Scores", "What is learned", "Format", "Trade-off", "Training loss", "Samples",
                    "How to reproduce"):  # fmt: skip
        assert any(found.startswith(heading) for found in seen.headings), heading
    assert seen.text.startswith("Tuning on lab_nli")
    assert "finetune" in seen.text and "of the base model's" in seen.text


def test_page_is_self_contained_and_embeds_the_pictures_beside_it(demo, page):
    addresses = read(page).addresses
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    embedded = {base64.b64decode(address.split(",")[1]) for address in addresses}
    assert embedded == {path.read_bytes() for path in demo.glob("*.png")}
    assert "http" not in re.sub(r"base64,[^\"]+", "", page.read_text(encoding="utf-8"))


def test_pictures_are_900_pixels_wide(demo, page):
    for path in demo.glob("*.png"):
        header = path.read_bytes()[:24]
        assert int.from_bytes(header[16:20], "big") == 900, path.name


def test_samples_show_the_same_inputs_before_and_after(page):
    text = read(page).text
    assert text.count("where does person") == 3
    assert "✓ town 0 ✗ True" in text  # fine-tuning answers in the target's format


def test_config_is_escaped_and_complete(page):
    assert 'run.methods = ("<b>", "promot")' in read(page).text
    assert "<b>" not in page.read_text(encoding="utf-8")


def test_target_only(tmp_path):
    rows = [row for row in rows_of("promot") if row["group"] == "target"]
    seen = read(report(str(write_results(tmp_path, rows))))
    assert {path.stem for path in tmp_path.glob("*.png")} == {"forgetting_curve"}
    assert "Held out" not in seen.text and "Samples" not in seen.headings


def test_held_out_only_and_one_step(tmp_path):
    rows = [row for row in rows_of("base") if row["group"] != "target"]
    seen = read(report(str(write_results(tmp_path, rows))))
    assert list(tmp_path.glob("*.png")) == []
    assert seen.text.startswith("Held-out scores")


def test_learning_rate_sweep_over_seeds(tmp_path):
    rows = [
        row
        for method in ("base", "finetune", "promot")
        for rate in ((1e-4, 1e-3) if method != "base" else (None,))
        for seed in (0, 1)
        for row in rows_of(method, seed, rate, shots=(0,), steps=(0, 100))
    ]
    seen = read(report(str(write_results(tmp_path, rows))))
    assert (tmp_path / "learning_rate.png").exists()
    assert "± " in seen.text and "2 seeds" in seen.text and "learning rate" in seen.text


def test_coefficients_have_a_picture_of_their_own(tmp_path):
    """Curves over steps stay those of training, and the table has what was kept in the end."""
    rows = rows_of("finetune", shots=(1,))
    last = [row for row in rows if row["step"] == 300]
    for step, kept in enumerate((1.0, 0.0, 0.5), start=1):
        about = {"stage": "2-wise_ft", "step": step, "coefficient": kept, "selected": step == 3}
        rows += [row | about | {"value": round(row["value"] * kept, 3)} for row in last]
    (line,) = Results(rows).lines
    assert list(line.curve(Checkpoint.target)) == list(STEPS)
    goal = last[0]["value"]
    way = {at: score.value for at, score in line.way_back(Checkpoint.target).items()}
    assert way == {0.0: 0.0, 0.5: round(goal / 2, 3), 1.0: round(goal, 3)}, goal
    assert line.final(Checkpoint.target).value == way[0.5]
    found = read(report(str(write_results(tmp_path / "kept", rows))))
    assert "The way back" in found.headings and (tmp_path / "kept" / "way_back.png").exists()
    for bad in (-0.1, "half"):
        spoilt = [*rows, rows[-1] | {"coefficient": bad}]
        with pytest.raises(UserError, match="coefficient"):
            Results(spoilt)


def test_hostile_names_are_only_text(tmp_path):
    name = "<script>$x_{1}$ & 'q'"
    rows = [row | {"method": name, "task": f"{name}{row['task']}"} for row in rows_of("finetune")]
    page = report(str(write_results(tmp_path, rows)))
    assert "<script" not in page.read_text(encoding="utf-8")
    assert name in read(page).text


def test_without_intervals_shares_and_seeds(tmp_path):
    missing = {"low": None, "high": None, "format_share": None, "seed": None}
    rows = [row | missing for row in rows_of("finetune")]
    report(str(write_results(tmp_path, rows)))
    names = {path.stem for path in tmp_path.glob("*.png")}
    assert names == {"forgetting_curve", "tradeoff"}


def test_old_pictures_do_not_outlive_their_results(tmp_path):
    (tmp_path / "forgetting_curve.png").write_bytes(b"of an earlier run")
    report(str(write_results(tmp_path, rows_of("base"))))
    assert not (tmp_path / "forgetting_curve.png").exists()


def test_single_run_in_the_work_directory_itself(tmp_path):
    write_metrics(tmp_path / "1-prompt", 30)
    write_metrics(tmp_path / "2-model", 30)
    write_samples(tmp_path / "2-model", "lab_qa", 1, 0, ["town 0"])
    rows = rows_of("base") + rows_of("promot")
    seen = read(report(str(write_results(tmp_path, rows))))
    assert (tmp_path / "loss.png").exists()
    assert "promot: 2-model, step 0" in seen.text


def test_runs_find_their_method_by_path(tmp_path):
    names = ["promot", "promot_joint", "finetune"]
    folders = ["promot/1-a", "promot_joint/1-a", "promot-seed1/1-a", "finetune/s0/1-a", "other/1-a"]
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    found = {f"{f.run}/1-a": f.method for f in stage_folders(tmp_path, names)}
    assert [found[folder] for folder in folders] == [
        "promot", "promot_joint", "promot", "finetune", "other",
    ]  # fmt: skip


def test_loss_curve_of_a_killed_and_resumed_run(tmp_path):
    folder = tmp_path / "1-model"
    folder.mkdir()
    lines = ['{"step": 1, "loss": 3}', '{"step": 2, "loss": 2}', '{"step": 2, "loss": 1.5}',
             '{"step": 3, "loss": NaN}', '{"step": 4, "lo']  # fmt: skip
    (folder / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (stage,) = stage_folders(tmp_path, ["promot"])
    assert loss_curve(stage, Damage(tmp_path)) == {1: 3.0, 2: 1.5}


def test_what_is_damaged_is_left_out_and_told(tmp_path):
    folder = demo_workdir(tmp_path)
    (folder / "finetune/1-model/metrics.jsonl").write_bytes(b"\xff\n[1]\n" + b"[" * 99_999 + b"\n")
    (folder / "promot/2-model/metrics.jsonl").unlink()
    (folder / "promot/2-model/metrics.jsonl").mkdir()
    samples = folder / "promot_joint/2-model/samples/lab_qa.0shot.300.jsonl"
    lines = samples.read_text(encoding="utf-8").splitlines()
    lines[1] = lines[1].replace('"town 1"', "3", 1)
    samples.write_text("\n".join(lines), encoding="utf-8")
    (folder / "other").mkdir()
    (folder / "other/config.gin").mkdir()
    (note,) = re.findall('<p class="note">(Left out.*?)</p>', page_text(report(str(folder))))
    for said in (
        "finetune/1-model/metrics.jsonl (3 of 3 lines)",
        "promot/2-model/metrics.jsonl (Is a directory)",
        "promot_joint/2-model/samples/lab_qa.0shot.300.jsonl (1 of 4 lines)",
        "other/config.gin (Is a directory)",
    ):
        assert said in note


def page_text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_a_line_that_was_being_written_is_no_damage(tmp_path):
    folder = demo_workdir(tmp_path)
    with (folder / "finetune/1-model/metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 101, "lo')
    assert "Left out" not in page_text(report(str(folder)))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path):
    """Files may have 20,000 bytes: the first picture does not fit."""
    report(str(write_results(tmp_path, rows_of("finetune"))))
    write_results(tmp_path, rows_of("finetune") + rows_of("promot"))
    before = files_of(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            report(str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_of(tmp_path) == before


def test_a_page_in_the_place_of_a_directory(tmp_path):
    (write_results(tmp_path, rows_of("base")) / "report.html").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        report(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "results.json"}


def test_no_permission_to_write(tmp_path):
    """Root may write everywhere, so it becomes nobody for a moment."""
    report(str(write_results(tmp_path, rows_of("base"))))  # all is imported
    folder, user = Path(tempfile.mkdtemp()), os.geteuid()
    write_results(folder, rows_of("base"))
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(UserError, match="cannot be written .Permission denied.: copy it"):
            report(str(folder))
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
        shutil.rmtree(folder)


NUMBERS = st.sampled_from([0, 1, -1, 0.5, 1e-300, 1e11, -1e12, 1e13, 2**63, True, None, "1", []])
TEXTS = st.sampled_from(["", "base", "target", "$_", " ", None, 3, "\x00"])
FIELDS = (
    "low high n step shots seed learning_rate format_share scale chance too_long mean_shots"
    " unwritable ceiling selected prompt"
).split()
ODD = st.fixed_dictionaries(
    {"method": TEXTS, "task": TEXTS, "group": TEXTS, "value": NUMBERS},
    optional=dict.fromkeys(FIELDS, NUMBERS) | {"stage": TEXTS, "metric": TEXTS},
)


@settings(
    max_examples=40, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(st.lists(ODD | st.sampled_from(rows_of("promot")), min_size=1, max_size=6), st.booleans())
def test_whatever_the_rows_there_is_a_page_or_one_line(tmp_path, rows, sane):
    if sane:  # most rows have something wrong: look further than the first wrong field
        rows = [{k: v for k, v in row.items() if type(v) in (int, float)} for row in rows]
        rows = [{"method": "m", "task": "t", "group": "qa", "value": 1.0} | row for row in rows]
    write_results(tmp_path, rows)
    try:
        page = report(str(tmp_path))
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
    else:
        assert read(page).headings[0] == "Scores"
        summary(str(tmp_path))
