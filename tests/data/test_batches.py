import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promot_jax import data
from promot_jax.errors import UserError

V = 259
PROMPTS = {"p": np.arange(300, 304), "q": np.arange(310, 312)}


T5, DECODER = KINDS = "encoder_decoder", "decoder_only"
both_kinds = pytest.mark.parametrize("kind", KINDS)


def batches(
    task, input_length=40, target_length=8, vocabulary=None, vocab_size=V, kind=T5, **settings
):
    train = data.TrainData(task, input_length, target_length, **settings)
    return data.Batches(train, vocabulary or data.byte(), vocab_size, PROMPTS, kind)


def unpack(batch):
    """A batch -> the (prompt, input, target) of each example in it."""
    if "encoder_input_tokens" not in batch:
        return unpack_decoder(batch)
    found = []
    segments = [batch.get(f"{side}_segment_ids") for side in ("encoder", "decoder")]
    if segments[1] is None:
        segments[1] = batch["decoder_loss_weights"] > 0
    for row in range(len(batch["encoder_input_tokens"])):
        for segment in range(1, int(segments[0][row].max()) + 1):
            x = batch["encoder_input_tokens"][row][segments[0][row] == segment]
            inside = segments[1][row] == segment
            y, shifted = (batch[f"decoder_{k}_tokens"][row][inside] for k in ("target", "input"))
            assert shifted.tolist() == [0, *y[:-1]]
            assert (batch["decoder_loss_weights"][row][inside] == 1).all()
            assert x[-1] == y[-1] == 1
            prompt = tuple(x[x >= V].tolist())
            assert tuple(x[: len(prompt)].tolist()) == prompt
            text = [data.byte().decode(ids.tolist()) for ids in (x[len(prompt) :], y)]
            found.append((prompt, *text))
    return found


def unpack_decoder(batch):
    """The same of a decoder's: an example begins at position 0, a target behind the input."""
    found = []
    for row in range(len(batch["decoder_input_tokens"])):
        inside = batch["decoder_loss_weights"][row] > 0
        y, places = (batch[f"decoder_target_{k}"][row][inside] for k in ("tokens", "positions"))
        segments = batch.get("decoder_segment_ids", np.ones_like(batch["decoder_input_tokens"]))[
            row
        ]
        for segment in range(1, int(segments.max()) + 1):
            mine = segments[places] == segment
            targets, at, [begin] = y[mine], places[mine], np.flatnonzero(segments == segment)[:1]
            x = batch["decoder_input_tokens"][row][begin : at[0] + 1]
            assert at.tolist() == list(range(at[0], at[0] + len(targets))) and targets[-1] == 1
            shifted = batch["decoder_input_tokens"][row][at[1:]]
            assert shifted.tolist() == targets[:-1].tolist()
            prompt = tuple(x[x >= V].tolist())
            assert tuple(x[: len(prompt)].tolist()) == prompt
            text = [data.byte().decode(ids.tolist()) for ids in (x[len(prompt) :], targets)]
            found.append((prompt, text[0], text[1].removeprefix(" ")))
    return found


def test_layout(text_task):
    batch = batches(text_task([("ab", "c")]), 6, 4, batch_size=2, prompts="q")(0)
    a = ord("a") + 3
    assert batch["encoder_input_tokens"].tolist() == [[310, 311, a, a + 1, 1, 0]] * 2
    assert batch["decoder_target_tokens"].tolist() == [[a + 2, 1, 0, 0]] * 2
    assert batch["decoder_input_tokens"].tolist() == [[0, a + 2, 0, 0]] * 2
    assert batch["decoder_loss_weights"].tolist() == [[1, 1, 0, 0]] * 2
    dtypes = {key: array.dtype for key, array in batch.items()}
    assert dtypes.pop("decoder_loss_weights") == np.float32
    assert set(dtypes.values()) == {np.dtype(np.int32)}


@both_kinds
@pytest.mark.parametrize("packing", [False, True])
def test_pure_function_of_the_step(text_task, pairs, packing, kind):
    name, how = text_task(pairs(50)), {"batch_size": 8, "packing": packing, "kind": kind}
    one, other = (batches(name, shots=(0, 1), **how) for _ in range(2))
    later = [one(step) for step in range(20)]
    for step in (19, 3, 3, 0, np.int64(11)):
        again = other(step)
        assert list(again) == list(later[step])
        assert all(np.array_equal(again[key], later[step][key]) for key in again)
    seeded = batches(name, seed=1, **how)(0)
    assert not np.array_equal(seeded["decoder_input_tokens"], later[0]["decoder_input_tokens"])


@pytest.fixture(scope="module")
def small_task(text_task):
    return text_task([(f"i{n}", "t") for n in range(17)])


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 1000),
    st.lists(st.integers(0, 12), max_size=4),
    st.booleans(),
    st.sampled_from(KINDS),
)
def test_hosts_rows_make_up_the_global_batch(small_task, step, cuts, packing, kind):
    make = batches(small_task, batch_size=12, packing=packing, kind=kind)
    whole, edges = make(step), [0, *sorted(cuts), 12]
    parts = [make(step, slice(*edge)) for edge in zip(edges, edges[1:], strict=False)]
    for key in whole:
        assert np.array_equal(np.concatenate([part[key] for part in parts]), whole[key])


@both_kinds
@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("prompt", [None, "p"])
def test_every_example_once_an_epoch(text_task, pairs, packing, prompt, kind):
    rows = pairs(36)
    make = batches(text_task(rows), batch_size=1, packing=packing, prompts=prompt, kind=kind)
    units = make.report["units"]
    assert (units < 36) == packing
    ids = tuple(PROMPTS[prompt]) if prompt else ()
    for epoch in range(3):
        seen = [e for i in range(units) for e in unpack(make(epoch * units + i))]
        assert sorted(seen) == sorted((ids, *row) for row in rows)


@both_kinds
def test_mixture_proportions_and_prompts(text_task, mixture, pairs, kind):
    a, b = text_task(pairs(10, "a")), text_task(pairs(7, "b"))
    name = mixture({a: 3.0, b: 1.0})
    make = batches(name, batch_size=64, prompts={b: "q"}, kind=kind)
    seen = [e for step in range(16) for e in unpack(make(step))]
    of_a = [e for e in seen if e[1].startswith("a")]
    assert len(of_a) == 768
    assert {e[0] for e in of_a} == {()}
    assert {e[0] for e in seen if e[1].startswith("b")} == {(310, 311)}
    assert set(make.report["tasks"]) == {a, b}
    assert sorted(e[1:] for e in of_a[:10]) == sorted(pairs(10, "a"))


def test_several_tasks_and_mixtures_have_equal_shares(text_task, mixture, pairs):
    a, b, c = (text_task(pairs(7, word)) for word in "abc")
    seen = [
        e[1][0]
        for step in range(16)
        for e in unpack(batches([a, mixture({b: 30.0, c: 10.0})], batch_size=64)(step))
    ]
    assert [seen.count(word) for word in "abc"] == [512, 384, 128]


def test_mixture_rates_that_cannot_be_had(text_task, mixture, pairs):
    name = text_task(pairs(5))
    with pytest.raises(UserError, match="its rates cannot be had .ZeroDivisionError"):
        batches(mixture({name: lambda task: 1 / 0}))
    with pytest.raises(UserError, match="rates .* number of 0 or more"):
        batches(mixture({name: -1.0}))
    with pytest.raises(UserError, match="at least one task"):
        batches([])


def test_mixture_rates_count_examples_also_when_packed(text_task, mixture):
    short, long = text_task([("s", "t")] * 40), text_task([("l" * 39, "t")] * 40)
    make = batches(mixture({short: 1.0, long: 1.0}), batch_size=64, packing=True)
    seen = [e[1][0] for step in range(16) for e in unpack(make(step))]
    assert 0.9 < seen.count("s") / seen.count("l") < 1.1


@both_kinds
@pytest.mark.parametrize("packing", [False, True])
def test_replay_has_its_share_of_the_examples(text_task, packing, kind):
    """Whatever is trained on beside it; with its own prompt, or none, and its own shots."""
    new, more = (text_task([(f"{x}{i}", "b") for i in range(8)]) for x in "nm")
    old = text_task([(f"long old input {i}", f"o{i}") for i in range(6)])
    both = {"task": [new, more], "prompts": "p", "packing": packing, "batch_size": 16}
    for rate, prompt in ((0.25, None), (0.9, "q")):
        replay = data.Replay(old, rate, prompt, shots=(1,))
        made = batches(**both, input_length=64, replay=replay, kind=kind)
        seen = [example for step in range(64) for example in unpack(made(step))]
        again = [(found, x) for found, x, _ in seen if "old" in x]
        assert len(again) / len(seen) == pytest.approx(rate, abs=0.02)
        assert {found for found, _ in again} == {() if prompt is None else tuple(PROMPTS[prompt])}
        assert all(x.count("input") == 2 for _, x in again)  # one shot, which others have not
        assert {found for found, x, _ in seen if "old" not in x} == {tuple(PROMPTS["p"])}
        counts = [sum(x[0] == kind for _, x, _ in seen) for kind in "nm"]
        assert counts[0] == pytest.approx(counts[1], rel=0.1)
    assert made.digests.keys() == {new, more, old}
    alone = batches(**both, input_length=64, kind=kind)
    assert alone.digests[new] == made.digests[new].replace("x 0.05", "x 1")
    with pytest.raises(UserError, match=f"Replay.task names '{new}', which is trained on"):
        batches(**both, replay=data.Replay([old, new]))
    with pytest.raises(UserError, match="Replay.rate = 0: set 0.001 to 0.999"):
        data.Replay(old, 0)


def test_tasks_with_rate_0_are_not_read(text_task, mixture, pairs):
    a, b = text_task(pairs(5, "a")), text_task(pairs(5, "b"))
    assert set(batches(mixture({a: 1.0, b: 0.0})).report["tasks"]) == {a}
    with pytest.raises(UserError, match="rates are 0"):
        batches(mixture({a: 0.0}))


def test_nothing_is_cut_silently(text_task):
    name = text_task([("short", "t"), ("long" * 20, "t"), ("short", "long target")])
    dropped, trimmed = (batches(name, batch_size=3, too_long=t) for t in ("drop", "trim"))
    assert {k: dropped.report[k] for k in ("rows", "too_long", "examples")} == {
        "rows": 3, "too_long": 2, "examples": 1,
    }  # fmt: skip
    assert set(unpack(dropped(0))) == {((), "short", "t")}
    assert (trimmed.report["too_long"], trimmed.report["examples"]) == (2, 3)
    assert sorted(unpack(trimmed(0))) == sorted(
        [
            ((), "short", "t"),
            ((), ("long" * 20)[:24] + ("long" * 20)[-15:], "t"),
            ((), "short", "long ta"),
        ]
    )


def test_max_rows_is_reported(text_task, pairs):
    name = text_task(pairs(10))
    report = batches(name, max_rows=4).report
    assert report["rows"] == 4
    assert report["tasks"][name]["more_than_max_rows"]
    assert not batches(name, max_rows=10).report["tasks"][name]["more_than_max_rows"]


def test_shots_in_training(text_task):
    info = data.TaskInfo(separator="|", shot_template="{inputs}>{targets}")
    name = text_task([(f"i{n}", f"t{n}") for n in range(60)], info=info)
    make = batches(name, input_length=64, batch_size=60, shots=(0, 2))
    seen = unpack(make(0))
    number_of_shots = [text.count("|") for _, text, _ in seen]
    assert set(number_of_shots) == {0, 2}
    assert sorted(unpack(make(1))) == sorted(seen)  # an example's shots are always the same
    for _, text, target in seen:
        assert f">{target}|" not in text


def test_one_task_many_vocabularies(text_task, t5_vocabulary):
    name = text_task([("A place of sorrow.", "True")])
    batch = batches(name, 16, 4, t5_vocabulary, 32128, batch_size=1)(0)
    ids = [71, 286, 13, 27225, 5, 1]
    assert batch["encoder_input_tokens"][0].tolist() == ids + [0] * 10
    assert batch["decoder_target_tokens"][0].tolist() == [10998, 1, 0, 0]
    assert unpack(batches(name)(0))[0] == ((), "A place of sorrow.", "True")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_length": 4, "prompts": "p"}, "prompt 'p' has 4 tokens.*input_length=4"),
        ({"prompts": "pq"}, "no prompt 'pq'.*did you mean.*'p', 'q'"),
        ({"prompts": {"other": "p"}}, "'other' is not a task"),
        ({"input_length": 5}, "none of 3 rows.*input_length=5.*shortest input needs 13"),
        ({"vocab_size": 100}, "id 124.*vocab_size=100"),
        ({"shots": (0, 9)}, "shots=9.*only 3 of the 3"),
        ({"split": "test"}, r"no split 'test'.*\['train'\]"),
        ({"shots": ()}, "shots"),
        ({"shots": (-1,)}, "shots"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_rows": 0}, "max_rows=0"),
        ({"seed": -1}, "seed = -1"),
        ({"too_long": "cut"}, "too_long='cut'"),
    ],
)
def test_errors(text_task, settings, message):
    name = text_task([("some words" + "y" * (i + 1) + "x", "t") for i in range(3)])
    with pytest.raises(UserError, match=message):
        batches(name, **settings)


def test_unknown_task():
    with pytest.raises(UserError, match="not registered"):
        batches("no such task")


def test_digests_are_those_of_earlier_releases(text_task, pairs):
    """Else work directories that began with them would be refused."""
    rows, digests = [(x, y * 2) for x, y in pairs(300)], []
    decoder = {"kind": DECODER, "input_length": 12}
    for how in ({}, {"prompts": "p", "too_long": "trim"}, decoder):
        digests += batches(text_task(rows), **{"target_length": 9} | how).digests.values()
    ours = "12d61825951501fa", "439efaf4bf6835be", "0db634131e4afc22"
    assert digests == [f"{digest} x 1" for digest in ours]


def test_rows_of_several_blocks_and_stages(text_task, pairs):
    """The same as one by one; a second stage and another seed read them again from memory."""
    rows = pairs(3000)
    name = text_task(rows)
    make = batches(name, batch_size=3000, prompts="p")
    assert sorted(unpack(make(0))) == sorted((tuple(PROMPTS["p"]), *row) for row in rows)
    again = batches(name, batch_size=8, seed=1)
    assert again._tasks[name]._rows is make._tasks[name]._rows
    assert batches(name, max_rows=2048).report["rows"] == 2048
