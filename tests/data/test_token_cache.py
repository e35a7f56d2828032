"""Rows on disk: the same as in memory, made once, found again, and told from others."""

import dataclasses
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import seqio
import tensorflow as tf

from promot_jax import data
from promot_jax.data import building, examples, files, reading, rows
from promot_jax.data.identity import Describer, Unknown
from promot_jax.errors import UserError
from promot_jax.failures import failure

PROMPTS = {"p": np.arange(300, 304)}
MIXED = {"packing": True, "prompts": "p", "shots": (0, 2)}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Everything is large here: shards of 2 blocks of 16 rows, files from one byte on."""
    for module in (examples, rows):
        monkeypatch.setattr(module, "BLOCK", 16)
    monkeypatch.setattr(building, "SHARD", 2)
    monkeypatch.setattr(reading, "LARGE", 20)
    monkeypatch.setattr(files, "LARGE", 1)
    monkeypatch.setattr(files, "HEAD", 32)
    forget()


def forget():
    """As a process that starts anew."""
    for cached in (reading._read, reading._place, examples._load):
        cached.cache_clear()


def lines(n=100, word="word"):
    return [(f"what follows {word} {i}?" * (1 + i % 3), f"{word} é{i + 1}") for i in range(n)]


def write(path, pairs, ending="jsonl"):
    rows = [json.dumps({"inputs": x, "targets": y}) for x, y in pairs]
    if ending == "tsv":
        rows = [f"{x}\t{y}" for x, y in pairs]
    path = path.with_suffix(f".{ending}")
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def own(tmp_path):
    """Registers the rows of a file as a task, or others under the same name."""

    def make(pairs, ending="jsonl", name=f"cached_{tmp_path.name}", validation=True):
        path = write(tmp_path / "rows", pairs, ending)
        held_out = write(tmp_path / "held_out", lines(3), ending) if validation else None
        return data.file_task(name, path, held_out)

    return make


def make(name, cache, kind="encoder_decoder", **settings):
    settings = {"input_length": 90, "target_length": 12, "batch_size": 8} | settings
    where = None if cache is None else str(cache)
    return data.Batches(data.TrainData(name, **settings), data.byte(), 259, PROMPTS, kind, where)


def same(ours, theirs):
    assert ours.digests == theirs.digests and ours.report == theirs.report
    for step in (0, 1, 30, 7):
        mine, other = ours(step), theirs(step)
        assert all(np.array_equal(mine[key], other[key]) for key in other)


def directory(cache):
    [found] = [path for path in cache.iterdir() if path.is_dir()]
    return found


def state(cache):
    """The files of a cache and when they were written."""
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*.*") if path.is_file()}


@pytest.mark.parametrize("kind", ["encoder_decoder", "decoder_only"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"packing": True}, MIXED, {"too_long": "trim", "shots": (2,)}, {"max_rows": 50}],
)
def test_batches_are_those_in_memory(own, tmp_path, kind, settings):
    name = own(lines())
    memory, made = (make(name, cache, kind, **settings) for cache in (None, tmp_path / "cache"))
    assert len(list(directory(tmp_path / "cache").glob("*.array_record"))) >= 2
    same(made, memory)
    before = state(tmp_path / "cache")
    forget()
    same(make(name, tmp_path / "cache", kind, **settings), memory)
    assert state(tmp_path / "cache") == before


@pytest.mark.parametrize("ending", ["jsonl", "tsv"])
def test_rows_that_are_held_out(own, tmp_path, ending, monkeypatch):
    """Of a large file they are found while it is read, and are those of a small one."""
    name = own(lines(300), ending, validation=False)
    large, held_out = make(name, tmp_path / "cache"), data.load_examples(name, "validation")
    monkeypatch.setattr(files, "LARGE", 1 << 20)
    small = own(lines(300), ending, f"small_{tmp_path.name}", validation=False)
    forget()
    assert large._tasks[name].digest == make(small, None)._tasks[small].digest
    assert [e.inputs for e in held_out] == [
        e.inputs for e in data.load_examples(small, "validation")
    ]
    assert 0 < len(held_out) < 60


def test_small_tasks_need_no_disk(own, tmp_path):
    make(own(lines(20)), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_other_stages_and_runs_find_again(own, tmp_path):
    """Lengths, prompts, packing and, without shots, seeds are not of the rows."""
    name, cache = own(lines()), tmp_path / "cache"
    make(name, cache)
    for settings in ({"seed": 3}, {"prompts": "p"}, {"input_length": 50}, {"packing": True}):
        forget()
        same(make(name, cache, **settings), make(name, None, **settings))
        directory(cache)
    for others in ({"shots": (1,)}, {"max_rows": 60}, {"too_long": "trim"}):
        make(name, cache, **others)
    assert sum(path.is_dir() for path in cache.iterdir()) == 4


def test_a_changed_file_is_another_cache(own, tmp_path):
    name, cache = own(lines()), tmp_path / "cache"
    make(name, cache)
    own(lines(word="other"))
    same(make(name, cache), make(name, None))
    assert sum(path.is_dir() for path in cache.iterdir()) == 2


def test_what_was_killed_goes_on(own, tmp_path):
    """Shards that are there stay as they are, whatever of the others is there."""
    name, cache = own(lines()), tmp_path / "cache"
    make(name, cache)
    there = directory(cache)
    kept = {path: path.stat().st_mtime_ns for path in there.glob("0000[02].*")}
    for gone in ("whole.json", "00001.npz", "00003.npz", "00003.array_record"):
        (there / gone).unlink()
    forget()
    same(make(name, cache), make(name, None))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept and len(kept) == 4


def test_hosts_make_their_shards(own, tmp_path, monkeypatch):
    """Each its own, of one directory; the first one finishes it."""
    name, cache = own(lines()), tmp_path / "cache"
    monkeypatch.setattr(building, "_share", lambda directory: (1, 2))
    with pytest.raises(FileNotFoundError):  # this host does not say that all is there
        make(name, cache)
    assert {path.name[:5] for path in directory(cache).glob("*.npz")} == {"00001", "00003"}
    monkeypatch.setattr(building, "_share", lambda directory: (0, 2))
    forget()
    same(make(name, cache), make(name, None))


@pytest.mark.parametrize(
    "wrong", ["00001.array_record", "00001.npz", "whole.json", "digest"], ids=lambda name: name[:9]
)
@pytest.mark.parametrize("how", ["flip", "cut"])
def test_damage_is_named(own, tmp_path, wrong, how):
    name, cache = own(lines()), tmp_path / "cache"
    make(name, cache)
    [path] = directory(cache).glob(f"{wrong}*")
    content = bytearray(path.read_bytes())
    ids = np.array([ord(letter) + 3 for letter in "what"], np.int32).tobytes()
    digest = make(name, None)._tasks[name].digest.encode("utf-32-le")
    lengths = directory(cache) / "00001.npz"
    parts = [ids, digest, np.load(lengths)["lengths"].tobytes(), b"shards"]
    [place] = [content.index(part) for part in parts if part in content]
    content[place] ^= 1
    path.write_bytes(content[: len(content) // 2] if how == "cut" else content)
    forget()
    with pytest.raises(UserError, match="is damaged .*: delete .*, which is then made again"):
        found = make(name, cache)
        [found(step) for step in range(30)]
    shutil.rmtree(directory(cache))
    forget()
    same(make(name, cache), make(name, None))


def test_malformed_rows_are_named_as_ever(own, tmp_path):
    """All of the file's, before the first step, also behind its head; nothing is left half done."""
    empty = (190, 270, *range(290, 295))
    name = own([(x, "" if i in empty else y) for i, (x, y) in enumerate(lines(300))])
    with pytest.raises(UserError, match="7 malformed rows: line 191: targets is empty; .*; and 2"):
        make(name, tmp_path / "cache")
    with pytest.raises(UserError, match="1 malformed row: line 3: targets is empty; correct"):
        own([(x, "" if i == 2 else y) for i, (x, y) in enumerate(lines())], "tsv", "bad_head")


def test_a_directory_that_cannot_be_written(own, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="DATA_CACHE: .*file.* cannot be written .Not a dir.*: set"):
        make(own(lines()), tmp_path / "file" / "cache")


def test_a_disk_that_is_full(own, tmp_path):
    """One line that names the file; nothing half written is left, and with room it goes on."""
    name, cache = own(lines()), tmp_path / "cache"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(OSError) as error:
            make(name, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = failure(error.value, "run")
    assert "00000.array_record: the file is larger than is allowed here" in said
    assert {path.name for path in directory(cache).iterdir()} == {".lock-0", "about.json"}
    forget()
    same(make(name, cache), make(name, None))


def test_preprocessors_and_lists_of_large_files(tmp_path, monkeypatch):
    """What TensorFlow makes of a file's rows, read a block at a time."""
    rows = [{"q": f"q {i}", "n": i % 2, "all": [f"a{i}"] * (1 + i % 3)} for i in range(90)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "train.jsonl").write_text(text, encoding="utf-8")

    def texts(dataset):
        return dataset.filter(lambda row: row["n"] > 0).map(
            lambda row: {"inputs": row["q"], "targets": tf.strings.reduce_join(row["all"])}
        )

    made = []
    for large in (1, 1 << 20):
        monkeypatch.setattr(files, "LARGE", large)
        source = data.file_source(str(tmp_path), ["q"], ["all"], {"n": (0, 1)})
        name = data.add_task(f"lists_{large}_{tmp_path.name}", source, [texts], []).name
        made.append(make(name, tmp_path / "cache" if large == 1 else None))
    assert made[0].digests.popitem()[1] == made[1].digests.popitem()[1]
    assert made[0].report["rows"] == 45
    (tmp_path / "train.jsonl").write_text(f'{text}{{"q": "a", "n": 3, "all": ["b"]}}\n', "utf-8")
    monkeypatch.setattr(files, "LARGE", 1)
    source = data.file_source(str(tmp_path), ["q"], ["all"], {"n": (0, 1)})
    data.add_task(f"lists_bad_{tmp_path.name}", source, [texts], [])
    with pytest.raises(UserError, match="line 91: 'n' is 3, none of .0, 1."):
        make(f"lists_bad_{tmp_path.name}", None)


def seqio_task(name, number, texts):
    """A task of a function, registered anew."""

    def dataset(split, shuffle_files=False, seed=None):
        return tf.data.Dataset.from_tensor_slices({"inputs": texts, "targets": texts})

    def change(dataset, number=number, other=None):
        return dataset.map(lambda row: row | {"targets": tf.strings.as_string(number)})

    if name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(name)
    source = seqio.FunctionDataSource(dataset, ["train"])
    return data.add_task(name, source, [change], []).name


def test_seqio_tasks_are_known_by_their_code(tmp_path):
    """By what functions hold on to, too; `cached` counts the caches after each."""
    cache, texts, cached = tmp_path / "cache", [f"text {i}" for i in range(40)], []
    for number, added in ((1, []), (1, []), (2, []), (2, ["one more"])):
        name = seqio_task(f"seqio_{tmp_path.name}", number, texts + added)
        forget()
        same(make(name, cache), make(name, None))
        cached.append(sum(path.is_dir() for path in cache.iterdir()))
    assert cached == [1, 1, 2, 3]


def test_rows_that_changed_unseen(tmp_path):
    """What a function reads elsewhere is not known, but the first rows are compared."""
    path, cache = tmp_path / "elsewhere.txt", tmp_path / "cache"

    def dataset(split, shuffle_files=False, seed=None):
        rows = open(str(path), encoding="utf-8").read().split()  # noqa: SIM115
        return tf.data.Dataset.from_tensor_slices({"inputs": rows, "targets": rows})

    path.write_text("a b c " * 20, encoding="utf-8")
    source = seqio.FunctionDataSource(dataset, ["train"])
    name = data.add_task(f"elsewhere_{tmp_path.name}", source, [], []).name
    make(name, cache)
    path.write_text("a b d " * 20, encoding="utf-8")
    forget()
    with pytest.raises(UserError, match="has other rows than elsewhere.* gives now: delete it"):
        make(name, cache)


def test_what_nothing_tells_apart_stays_in_memory(tmp_path, capsys):
    name = seqio_task(f"endless_{tmp_path.name}", 1, [f"text {i}" for i in range(40)])
    data.get_task(name).preprocessors[0].__defaults__ = (1, object())
    same(make(name, tmp_path / "cache"), make(name, None))
    assert "its tokens stay in memory: nothing tells its rows" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_descriptions_are_of_values_and_not_of_places():
    @dataclasses.dataclass
    class Settings:
        names: set
        array: np.ndarray

    def value(array, number):
        return Settings({"b", "a", "c"}, array), lambda x: x + number, tf.constant([1.0])

    say = [json.dumps(Describer()(value(np.arange(3), number))) for number in (1, 1, 2)]
    assert say[0] == say[1] != say[2]
    assert json.dumps(Describer()(value(np.arange(4), 1))) != say[0]
    with pytest.raises(Unknown, match="object"):
        Describer()(object())


def test_two_hosts(tmp_path):
    """On a disk of both each makes its shards, on disks of their own all; one's error ends both."""
    text = "".join(f"{x}\t{y}\n" for x, y in lines(300))
    (tmp_path / "rows.tsv").write_text(text, encoding="utf-8")
    (tmp_path / "bad.tsv").write_text(f"{text}\tno input\n", encoding="utf-8")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    own = {"XLA_FLAGS": "", "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    command = [sys.executable, str(Path(__file__).with_name("token_cache_host.py")), str(tmp_path)]
    started = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, env=os.environ | own | {"JAX_PROCESS_ID": str(index)}
        )
        for index in range(2)
    ]
    shared, alone, bad = zip(
        *(json.loads(host.communicate(timeout=300)[0].splitlines()[-1]) for host in started),
        strict=True,
    )
    assert len({digest for digest, _ in (*shared, *alone)}) == 1
    every = [f"{number:05}" for number in range(10)]
    assert [shards for _, shards in shared] == [every[::2], every[1::2]]
    assert [shards for _, shards in alone] == [every, every]
    [first], [second] = bad
    assert "another host could not make its part of the token cache" in first
    assert "1 malformed row: line 301: inputs is empty" in second
