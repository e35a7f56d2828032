import itertools
import json

import pytest
import seqio
from hypothesis import given
from hypothesis import strategies as st

from promot_jax import data
from promot_jax.data.rows import MISSING, read_rows
from promot_jax.errors import UserError

numbers = itertools.count()
PLAIN = {"inputs": "{inputs}", "targets": "{targets}"}
NLI = {"inputs": "{premise} question: {hypothesis}", "targets": "{label}"}


@pytest.fixture
def file(tmp_path):
    def write(ending, content):
        path = tmp_path / f"file{next(numbers)}.{ending}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_plain_text_is_a_task_without_inputs(file):
    """Rows are held out by their text; an empty one is still malformed."""
    lines = "".join(json.dumps({"text": f"said {i}"}) + "\n" for i in range(60))
    name = data.file_task("plain_text", file("jsonl", lines), inputs="", targets="{text}")
    rows = [data.load_examples(name, split) for split in ("train", "validation")]
    assert {example.inputs for split in rows for example in split} == {""}
    found = [example.targets for split in rows for example in split]
    assert sorted(found) == sorted(f"said {i}" for i in range(60)) and len(rows[1]) > 1
    with pytest.raises(UserError, match="line 2: targets is empty"):
        read_rows(file("jsonl", '{"t": "a"}\n{"t": " "}\n'), {"inputs": "", "targets": "{t}"})
    with pytest.raises(UserError, match="template targets = '' must name columns"):
        read_rows(file("jsonl", '{"t": "a"}\n'), {"inputs": "{t}", "targets": ""})


def texts(rows):
    return [(row["inputs"], row["targets"]) for row in rows]


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("tsv", 'say "a"\tb\nc,d\té\n'),
        ("tsv", '\ufeffsay "a"\tb\r\n\r\nc,d\té'),
        ("tsv", 'targets\tinputs\nb\tsay "a"\né\tc,d\n'),
        ("tsv", 'Input\tTarget\nsay "a"\tb\nc,d\té\n'),
        ("csv", '"say ""a""",b\n"c,d",é\n'),
        ("csv", 'id,inputs,targets\n1,"say ""a""",b\n\n2,"c,d",é\n'),
        ("jsonl", '{"inputs": "say \\"a\\"", "targets": "b"}\n\n{"inputs": "c,d", "targets": "é"}'),
    ],
)
def test_two_columns(file, ending, content):
    assert texts(read_rows(file(ending, content), PLAIN)) == [('say "a"', "b"), ("c,d", "é")]


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("tsv", "label\tpremise\thypothesis\n1\tp\th\n"),
        ("csv", 'premise,label,hypothesis\np,1,"h"\n'),
        ("jsonl", '{"premise": "p", "hypothesis": "h", "label": 1}'),
    ],
)
def test_templates(file, ending, content):
    assert texts(read_rows(file(ending, content), NLI)) == [("p question: h", "1")]


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "mixed"])
def test_line_ends(file, ending, end):
    row = {"tsv": "{}\t{}", "csv": "{},{}", "jsonl": '{{"inputs": "{}", "targets": "{}"}}'}[ending]
    ends = ["\n", "\r", "\r\n"] if end == "mixed" else [end] * 3
    lines = [row.format(*pair) + end for pair, end in zip(["ab", "cd", "ef"], ends, strict=True)]
    content = "".join(lines)
    assert texts(read_rows(file(ending, content), PLAIN)) == [("a", "b"), ("c", "d"), ("e", "f")]


def test_columns_of_any_name(file):
    row = {"0": "a", "answer.1": "b", "label[0]": "c", "what is: it!r": "d"}
    templates = {"inputs": "{0}{{}}{what is: it!r}", "targets": "{answer.1} {label[0]}"}
    assert texts(read_rows(file("jsonl", json.dumps(row)), templates)) == [("a{}d", "b c")]


def test_rows_that_could_be_headers(file):
    for content in ("hund,tier\nkatze,tier\ntisch,ding\nstuhl,ding\n", "hund,dog\nkatze,cat\n"):
        assert len(read_rows(file("csv", content), PLAIN)) == content.count("\n")


def test_lines_within_quotes_and_long_cells(file):
    path = file("csv", 'a,b\n"two\nlines",x\n' + "y" * 200_000 + ",z\n1,2,3\n")
    with pytest.raises(UserError, match="1 malformed row: line 5: 3 columns instead of 2"):
        read_rows(path, {"inputs": "{a}", "targets": "{b}"})


cells = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)
cells = cells.filter(lambda text: text.strip() and text not in MISSING)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
def test_jsonl_and_csv_round_trip(tmp_path_factory, rows):
    import csv

    folder = tmp_path_factory.mktemp("round")
    with open(folder / "x.jsonl", "w", encoding="utf-8") as out:
        out.writelines(json.dumps({"inputs": a, "targets": b}) + "\n" for a, b in rows)
    with open(folder / "x.csv", "w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("inputs", "targets"), *rows])
    for name in ("x.jsonl", "x.csv"):
        assert texts(read_rows(str(folder / name), PLAIN)) == rows


@pytest.mark.parametrize(
    ("ending", "content", "message"),
    [
        ("tsv", "a\tb\nc\nd\te\tf\n", "2 malformed rows: line 2: 1 columns .* line 3: 3 columns"),
        ("tsv", "a\tb\n\tc\nd\t \n", "line 2: inputs is empty; line 3: targets is empty"),
        ("tsv", "a\n" * 3, "no column 'inputs'.*its columns are"),
        ("tsv", "a\tb\tc\n", "no column 'inputs'"),
        ("tsv", "inputs\tlabel\na\tb\n", "no column 'targets'"),
        ("tsv", "inputs\tinput\ttargets\ttargets\n1\t2\t3\t4", "occurs twice"),
        ("tsv", b"a\tb\n\xff\tc\n", "line 2: not UTF-8 at byte 0"),
        ("tsv", "", "no rows"),
        ("csv", "inputs,targets\n", "no rows"),
        ("csv", 'a,b\n"c,d\n', "line 2: not CSV"),
        ("csv", '"a"b,c\nd,e\n', "line 1: not CSV"),
        ("jsonl", "\n\n", "no rows"),
        ("jsonl", '{"inputs": "a", "targets": "b"}\n{"inputs": ', "line 2: not JSON"),
        ("jsonl", '{"inputs": "a", "targets": "b"}\n[1]', "line 2: a JSON list: write one object"),
        ("jsonl", '{"inputs": "a", "targets": "b"}\n{"inputs": "c"}', "line 2: no 'targets'"),
        ("jsonl", '{"inputs": "a", "targets": null}', "line 1: 'targets' is null, not text"),
        ("jsonl", '{"inputs": "a", "targets": ["x"]}', "'targets' is .\"x\"., not text"),
        ("jsonl", '{"inputs": "a", "targets": "\\ud800"}', "line 1: not JSON"),
        ("jsonl", '{"input": "a", "target": "b"}', "no column 'inputs'.*did you mean 'input'"),
        ("txt", "a\tb", "must end in one of .jsonl, .csv, .tsv"),
        ("jsonl", '{"inputs": "a", "targets": NaN}\n' * 2, "2 malformed rows: line 1: .*NaN"),
        ("jsonl", '{"inputs": -Infinity, "targets": "b"}', "line 1: .*-Infinity is no JSON"),
        ("jsonl", '{"inputs": "a", "targets": 1e999}', "'targets' is Infinity, not text"),
        ("jsonl", '{"inputs": "a", "targets": %s}' % ("[" * 99999), "line 1: .*nested too deep"),
        ("jsonl", '{"inputs": "a", "targets": "\\u0000"}', "line 1: 'targets' has a NUL"),
        ("tsv", "a\0b\tc\n", "line 1: 'inputs' has a NUL"),
        ("tsv", "a b\tc\n".encode("utf-16"), "is UTF-16, not UTF-8: save it as UTF-8"),
        ("tsv", "a b\tc\n".encode("utf-16-be"), "is UTF-16BE, not UTF-8: save it as UTF-8"),
        ("csv", "a b,c\n".encode("utf-32"), "is UTF-32, not UTF-8: save it as UTF-8"),
        ("csv", "a,b\nc,é\n".encode("latin-1"), "line 2: not UTF-8 at byte 2.* 'c,é'.*save"),
        ("csv", "inputs;targets\na;b\n", "semicolons .';'. and not commas"),
        ("csv", "a\tb\nc\td\n", "tabs .* and not commas .*name it .tsv"),
        ("tsv", "a,b\nc,d\n", "commas .* and not tabs .*name it .csv"),
        ("csv", "review,sentiment\na b,x\nc d,y\ne f,x\n", "begins with the names .'review'"),
        ("csv", "word,kind\na,x\nb,y\nc,x\nd,y\n", "begins with the names .'word', 'kind'"),
    ],
)
def test_malformed(file, ending, content, message):
    with pytest.raises(UserError, match=message) as error:
        read_rows(file(ending, content), PLAIN)
    assert "\n" not in str(error.value)


def test_many_malformed_rows_and_missing_file(file):
    path = file("tsv", "a\tb\n" + "c\n" * 12)
    with pytest.raises(UserError, match="12 malformed rows: line 2: .* line 6: .*; and 7 more"):
        read_rows(path, PLAIN)
    with pytest.raises(UserError, match="'nowhere.tsv' cannot be read"):
        read_rows("nowhere.tsv", PLAIN)


@pytest.mark.parametrize("template", ["{inputs", "}", "no columns", "{}", "{{a}}"])
def test_bad_templates(file, template):
    with pytest.raises(UserError, match="template"):
        read_rows(file("tsv", "a\tb"), PLAIN | {"inputs": template})


def test_task(file):
    train = file("tsv", "".join(f"question {i}\t{i % 2 == 0}\n" for i in range(200)))
    test = file("jsonl", '{"inputs": "q", "targets": "True", "id": 7, "mixed": 1}')
    name = data.file_task("mine", train, test=test, metric="accuracy")
    assert name == "mine"
    info = data.task_info(name)
    assert (info.group, info.answer_format) == ("target", ("False", "True"))
    kept, held_out = (data.load_examples(name, s) for s in ("train", "validation"))
    assert len(kept) + len(held_out) == 200
    assert 5 < len(held_out) < 40
    assert not {e.inputs for e in kept} & {e.inputs for e in held_out}
    assert data.load_examples(name, "test")[0].features["id"] == 7
    task = data.get_task(name)
    assert task.metric_fns[0](["True", "False"], ["True", "x"]) == {"accuracy": 0.5}
    assert task.postprocess_fn(" True\n", example=None, is_target=False) == "True"


def test_the_held_out_rows_stay_when_rows_are_added(file):
    lines = [f"question {i}\t{i}\n" for i in range(300)]
    held_out = [
        {e.inputs for e in data.load_examples(data.file_task(f"held{n}", path), "validation")}
        for n, path in ((n, file("tsv", "".join(lines[:n]))) for n in (200, 300))
    ]
    assert held_out[0] == {text for text in held_out[1] if int(text.split()[1]) < 200}
    tiny = data.file_task("tiny", file("tsv", "a\tb\nc\td\n"))
    assert len(data.load_examples(tiny, "validation")) == 1
    with pytest.raises(UserError, match="too few different inputs"):
        data.file_task("too_tiny", file("tsv", "a\tb\na\tc\n"))


def test_registering_again(file):
    path, other = file("tsv", "a\tb\nc\td\n"), file("tsv", "e\tf\ng\th\n")
    for _ in range(2):
        data.file_task("again", path, metric=[data.exact_match, "accuracy"])
    assert len(data.get_task("again").metric_fns) == 2
    with pytest.raises(UserError, match="other arguments"):
        data.file_task("again", other)
    seqio.MixtureRegistry.add("again_mixture", [("again", 1.0)])
    with pytest.raises(UserError, match="already registered"):
        data.file_task("again_mixture", path)
    with pytest.raises(UserError, match="metric='acuracy'.*did you mean 'accuracy'"):
        data.file_task("bad_metric", path, metric="acuracy")


def test_columns_that_are_not_of_one_type(file):
    path = file("jsonl", '{"inputs": "a", "targets": "b", "x": 1}\n'
                         '{"inputs": "c", "targets": "d", "x": "y", "z": [1]}\n')  # fmt: skip
    name = data.file_task("odd_columns", path, validation=path)
    first, second = data.load_examples(name, "train")
    assert (first.features["x"], first.features["z"]) == ("1", "")
    assert (second.features["x"], second.features["z"]) == ("y", "[1]")
    assert len(data.load_examples(name, "validation")) == 2


def test_many_targets_are_no_label_set(file):
    path = file("tsv", "".join(f"q{i}\t{i}\n" for i in range(50)))
    assert data.task_info(data.file_task("open_answers", path)).answer_format is None
    answers = data.file_task("digits", path, answer_format=str.isdigit)
    assert data.in_format(data.task_info(answers), "12")


def test_paths_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "at_home.tsv").write_text("a\tb\nc\td\n", encoding="utf-8")
    (tmp_path / "train.jsonl").write_text('{"x": "1"}', encoding="utf-8")
    name = data.file_task("at_home", "~/at_home.tsv", "~/at_home.tsv")
    assert [e.inputs for e in data.load_examples(name, "train")] == ["a", "c"]
    assert data.file_source("~", ["x"]).num_input_examples("train") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "file_task.name = ''"),
        ({"train": ""}, "file_task.train = ''"),
        ({"answer_format": lambda text: text[0] == "a"}, "answer_format = .* fails on an empty"),
        (
            {"shot_template": "{inputs} {target}"},
            "shot_template .*'target' .did you mean 'targets'",
        ),
        ({"shot_template": "{inputs:>9}"}, "shot_template .*it may name .inputs. and .targets."),
    ],
)
def test_bad_arguments(file, arguments, message):
    usual = {"name": "bad_arguments", "train": file("tsv", "a\tb\nc\td\n")}
    with pytest.raises(UserError, match=message):
        data.file_task(**usual | arguments)
