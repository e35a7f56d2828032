"""Models of Transformers in and out: the same logits, the same text, the same bits."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import hf_models
import jax
import ml_dtypes
import numpy as np
import pytest
from hf_models import DECODER_INPUTS, INPUTS, INSTALLED, LENGTH, SHAPES
from safetensors.numpy import load_file, save_file
from sentencepiece import SentencePieceProcessor

from promot_jax.convert import export_model, import_checkpoint, open_source
from promot_jax.convert.tokenizer import read_vocabulary, write_vocabulary
from promot_jax.errors import UserError
from promot_jax.models import Decoding, nested
from promot_jax.run import LanguageModel
from promot_jax.training import make_mesh
from promot_jax.training.description import Description
from promot_jax.training.variables import Layout, load
from promot_jax.vocabularies import SentencePiece
from tests.t5_batches import answers, with_segments

SHARED = Path(os.environ.get("PROMOT_SHARED", Path(__file__).parents[3] / "shared"))
T5_SPIECE = SHARED / "spm/t5.spiece.model"
needs_transformers = pytest.mark.skipif(not INSTALLED, reason="needs make parity")


@dataclasses.dataclass
class Converted:
    """A shape's directory, the work directory made of it, and what that was exported to."""

    shape: str
    original: Path
    workdir: Path
    exported: Path


@pytest.fixture(scope="module", params=SHAPES)
def converted(request, tmp_path_factory) -> Converted:
    root = tmp_path_factory.mktemp(request.param)
    original = hf_models.save(request.param, root / "original")
    workdir = import_checkpoint(str(original), str(root / "work"))
    return Converted(
        request.param, original, workdir, export_model(str(workdir), str(root / "exported"))
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A T5 1.1 of Transformers, to be copied and spoilt."""
    return hf_models.save("t5_1_1", tmp_path_factory.mktemp("original") / "model")


@pytest.fixture
def copy(original, tmp_path) -> Path:
    made = tmp_path / "copy"
    made.mkdir()
    for file in original.iterdir():
        (made / file.name).write_bytes(file.read_bytes())
    return made


def arrays(directory: Path) -> dict[str, np.ndarray]:
    """All tensors of a directory's safetensors."""
    files = sorted(directory.glob("*.safetensors"))
    return {name: array for file in files for name, array in load_file(file).items()}


def same_bits(ours: Path, theirs: Path) -> bool:
    a, b = arrays(ours), arrays(theirs)
    assert set(a) == set(b)
    return all(a[n].dtype == b[n].dtype and a[n].tobytes() == b[n].tobytes() for n in a)


def computed(workdir: Path) -> dict[str, np.ndarray]:
    """Our logits, and what greedy search and four beams give."""
    model = Description.read(str(workdir)).module()
    variables = load(str(workdir), Layout(model, make_mesh()))
    batch = with_segments({"encoder_input_tokens": INPUTS, "decoder_input_tokens": DECODER_INPUTS})

    beams = Decoding(LENGTH, beams=hf_models.BEAMS, beam_search="huggingface", length_penalty=1.0)

    @jax.jit
    def all_of(variables):
        return {
            "logits": model.apply(nested(variables), batch),
            "greedy": answers(model, variables, INPUTS, Decoding(LENGTH))[0],
            "beams": answers(model, variables, INPUTS, beams)[0],
        }

    return jax.device_get(all_of(variables))


def transformers_tokenizer(directory: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory)


def test_logits_greedy_search_and_beams(converted):
    """Our logits are Transformers' (order of 10, float32), and so is what we generate."""
    ours, theirs = computed(converted.workdir), hf_models.expected(converted.shape)
    assert 2 < np.abs(theirs["logits"]).max() < 200
    logits = ours["logits"][..., :: hf_models.EVERY]
    np.testing.assert_allclose(logits, theirs["logits"], atol=1e-4, rtol=0)
    np.testing.assert_array_equal(ours["greedy"], theirs["greedy"])
    for row, expected in zip(ours["beams"], theirs["beams"], strict=True):
        end = np.argmax(expected == 1) + 1 or LENGTH  # behind its EOS Transformers repeat EOS
        np.testing.assert_array_equal(row[:end], expected[:end])


def test_export_is_the_original(converted):
    assert same_bits(converted.exported, converted.original)
    ours, theirs = (
        json.loads((directory / "config.json").read_text(encoding="utf-8"))
        for directory in (converted.exported, converted.original)
    )
    for name in {*SHAPES[converted.shape][1], "feed_forward_proj", "scale_decoder_outputs"}:
        if name in theirs and name != "tie_word_embeddings":
            assert ours[name] == theirs[name], name


@needs_transformers
def test_transformers_open_the_export(converted):
    """The weights bit by bit, the same model, and the tokenizer."""
    made = hf_models.classes(converted.shape)[1].from_pretrained(converted.exported).eval()
    assert made.config.model_type == hf_models.SHAPES[converted.shape][0].lower() or (
        converted.shape == "mt5"  # whose family shows in its vocabulary, which is another's here
    )
    theirs = hf_models.model(converted.shape).state_dict()
    for name, tensor in made.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), theirs[name].numpy(), err_msg=name)
    found = hf_models.results(made)
    np.testing.assert_array_equal(found["greedy"], hf_models.expected(converted.shape)["greedy"])
    tokenizer = transformers_tokenizer(converted.exported)
    text = "where does Anna live?"
    ids = tokenizer(text).input_ids
    if converted.shape == "byt5":
        assert ids == [*(byte + 3 for byte in text.encode()), 1]
        return
    pieces = SentencePieceProcessor(str(hf_models.SPIECE))
    assert ids == [*pieces.encode(text), 1]
    assert tokenizer.decode(ids, skip_special_tokens=True) == pieces.decode(ids)
    size = pieces.get_piece_size()
    assert tokenizer("<extra_id_0> <extra_id_99>").input_ids == [size + 99, size, 1]


def test_shards_and_types(copy, tmp_path):
    """Shards of a chosen size, of a chosen type, are read again as they were written."""
    whole = {name: x.astype(ml_dtypes.bfloat16) for name, x in arrays(copy).items()}
    save_file(whole, copy / "model.safetensors", metadata={"format": "pt"})
    workdir = import_checkpoint(str(copy), str(tmp_path / "work"))
    assert Description.read(str(workdir)).model.param_dtype == "bfloat16"
    exported = export_model(str(workdir), str(tmp_path / "shards"), shard_size="20KB")
    assert same_bits(exported, copy)
    files = sorted(exported.glob("model-*.safetensors"))
    index = json.loads((exported / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert set(index["weight_map"].values()) == {file.name for file in files}
    assert len(files) > 3
    assert all(file.stat().st_size < 30_000 or len(load_file(file)) == 1 for file in files)
    again = import_checkpoint(str(exported), str(tmp_path / "again"), dtype="float32")
    wide = export_model(str(again), str(tmp_path / "wide"))
    for name, array in arrays(wide).items():
        np.testing.assert_array_equal(array, whole[name].astype(np.float32))


@needs_transformers
def test_pytorch_files(copy, original, tmp_path):
    """`pytorch_model.bin` is read as weights alone; one that holds code is refused."""
    import torch

    stored = {name: torch.tensor(x) for name, x in arrays(copy).items()}
    (copy / "model.safetensors").unlink()
    stored["encoder.embed_tokens.weight"] = stored["shared.weight"]
    torch.save(stored, copy / "pytorch_model.bin")
    workdir = import_checkpoint(str(copy), str(tmp_path / "work"))
    assert same_bits(export_model(str(workdir), str(tmp_path / "exported")), original)
    torch.save({"shared.weight": print}, copy / "pytorch_model.bin")
    with pytest.raises(UserError, match="weights alone"):
        open_source(str(copy))


@pytest.mark.skipif(not T5_SPIECE.exists(), reason="T5's SentencePiece model is not there")
def test_tokenizer_json_is_the_sentencepiece_model(tmp_path):
    """Transformers 5 saves no spiece.model: its tokenizer.json, like ours, gives the same ids."""
    theirs = SentencePieceProcessor(str(T5_SPIECE))
    given = SentencePiece(T5_SPIECE.read_bytes(), 100)
    write_vocabulary(tmp_path, given)
    (tmp_path / "spiece.model").unlink()
    if INSTALLED:  # theirs in the place of ours, which it has to open
        (tmp_path / "config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
        tokenizer = transformers_tokenizer(tmp_path)
        assert tokenizer("naïve  ½ <extra_id_0>").input_ids == [*theirs.encode("naïve ½"), 32099, 1]
        tokenizer.save_pretrained(tmp_path)
    found = read_vocabulary(tmp_path, {"vocab_size": 32128})
    ours = SentencePieceProcessor(model_proto=found.model)
    assert (found.extra_ids, ours.get_piece_size()) == (100, theirs.get_piece_size())
    for text in ("where does  Anna live?", " ﬁne ½ naïve\t日本 ", "<extra_id_0> </s> <pad>", ""):
        assert ours.encode(text) == theirs.encode(text), text
        assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text))


def test_what_does_not_fit_is_named_at_once(copy, tmp_path):
    stored = arrays(copy)
    stored["decoder.block.1.extra.weight"] = stored["encoder.final_layer_norm.weight"]
    del stored["encoder.block.1.layer.0.SelfAttention.q.weight"]
    stored["lm_head.weight"] = stored["lm_head.weight"][:, :-1].copy()
    save_file(stored, copy / "model.safetensors")
    with pytest.raises(UserError) as caught:
        import_checkpoint(str(copy), str(tmp_path / "work"))
    for part in (
        "encoder.block.1.layer.0.SelfAttention.q.weight"
        " (params/encoder/layers_1/attention/query/kernel) is missing",
        "lm_head.weight (params/decoder/logits_dense/kernel) is (31, 896) instead of (32, 896)",
        "decoder.block.1.extra.weight has no place",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "work").exists()


SPOILT = [
    ("config.json", b'{"model_type": "bert"}', "'bert'"),
    ("config.json", b"{", "config.json is damaged"),
    ("model.safetensors", b"\x00" * 64, "damaged"),
    ("model.safetensors", None, "neither model.safetensors nor pytorch_model.bin"),
    ("spiece.model", b"no model", "no SentencePiece model"),
    ("spiece.model", None, "--vocabulary"),
]


@pytest.mark.parametrize(("file", "content", "says"), SPOILT)
def test_bad_directories(copy, tmp_path, file, content, says):
    if content is None:
        (copy / file).unlink()
    else:
        (copy / file).write_bytes(content)
    with pytest.raises(UserError, match=says):
        import_checkpoint(str(copy), str(tmp_path / "work"))
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("layer_norm_epsilon", 1e-5), ("feed_forward_proj", "gelu"), ("d_ff", None)],
)
def test_settings_that_no_t5_has(copy, setting, value):
    values = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps(values | {setting: value}), encoding="utf-8")
    with pytest.raises(UserError, match=setting):
        open_source(str(copy))


def test_nothing_is_overwritten(copy, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="not empty"):
        import_checkpoint(str(copy), str(tmp_path / "full"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="WORKDIR: '.*loop' is no path"):
        import_checkpoint(str(copy), str(tmp_path / "loop"))
    workdir = import_checkpoint(str(copy), str(tmp_path / "work"))
    with pytest.raises(UserError, match="not empty"):
        import_checkpoint(str(copy), str(workdir))
    with pytest.raises(UserError, match="not empty"):
        export_model(str(workdir), str(tmp_path / "full"))
    with pytest.raises(UserError, match="--shard_size=5 GiB"):
        export_model(str(workdir), str(tmp_path / "new"), shard_size="5 GiB")
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["mine"]
    assert (workdir / "sentencepiece.model").read_bytes() == hf_models.SPIECE.read_bytes()


def test_names_of_the_hub(monkeypatch):
    """Without a network one line says what was looked for."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"'no-one/no-model' is no directory here"):
        open_source("no-one/no-model")


def test_no_tensorflow(copy, tmp_path):
    """Import and export work in a process without TensorFlow."""
    code = (
        "import sys\n"
        "from promot_jax.convert import export_model, import_checkpoint\n"
        "workdir = import_checkpoint(sys.argv[1], sys.argv[2])\n"
        "export_model(str(workdir), sys.argv[3])\n"
        "assert 'tensorflow' not in sys.modules and 'seqio' not in sys.modules\n"
    )
    arguments = [str(copy), str(tmp_path / "work"), str(tmp_path / "exported")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    assert same_bits(tmp_path / "exported", copy)


ALIASES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


@pytest.mark.parametrize("alias", ALIASES)
def test_the_embedding_under_another_name(copy, alias):
    """Savers that drop what shares memory keep one name of the embedding, any one."""
    tensors = load_file(copy / "model.safetensors")
    tensors[alias] = tensors.pop("shared.weight")
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    tensor = open_source(str(copy)).tensors["params/token_embedder/embedding"]
    np.testing.assert_array_equal(tensor.read(), tensors[alias])


def test_a_copy_of_the_embedding_is_a_head_where_it_must_not_be_tied(copy):
    tensors = load_file(copy / "model.safetensors")
    tensors["lm_head.weight"] = tensors["shared.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    for tied in (False, True):
        values = json.loads((copy / "config.json").read_text(encoding="utf-8")) | {
            "tie_word_embeddings": tied
        }
        (copy / "config.json").write_text(json.dumps(values), encoding="utf-8")
        assert open_source(str(copy)).config.logits_via_embedding == tied


@pytest.mark.parametrize(
    ("file", "changes", "says"),
    [
        ("config.json", {"dense_act_fn": "relu"}, "dense_act_fn = 'relu'"),
        ("config.json", {"dropout_rate": "a"}, "dropout_rate = 'a': set a number"),
        ("config.json", {"feed_forward_proj": ["x"]}, r"feed_forward_proj = \['x'\]"),
        ("config.json", {"model_type": ["t5"]}, r"type \['t5'\]"),
        ("config.json", {"relative_attention_num_buckets": 0}, "buckets = 0"),
        ("config.json", {"num_layers": 2.5}, "num_encoder_layers = 2.5"),
        ("config.json", {"num_layers": 10**7}, "num_encoder_layers = 10000000"),
        ("config.json", {"tie_word_embeddings": "no"}, "tie_word_embeddings = 'no'"),
        ("config.json", {"quantization_config": {"bits": 4}}, "quantization_config = "),
        ("config.json", {"transformers_weights": "a.safetensors"}, "transformers_weights = 'a.s"),
        ("tokenizer_config.json", {"extra_ids": -3}, "extra_ids = -3"),
        ("tokenizer_config.json", {"extra_ids": "many"}, "extra_ids = 'many'"),
        ("tokenizer_config.json", [], "is damaged"),
    ],
)
def test_a_setting_that_cannot_be(copy, tmp_path, file, changes, says):
    path = copy / file
    values = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(values | changes if changes else changes), encoding="utf-8")
    with pytest.raises(UserError, match=says):
        import_checkpoint(str(copy), str(tmp_path / "work"))
    assert not (tmp_path / "work").exists()


def test_sentinels_are_as_many_as_the_tokenizer_lists(tmp_path):
    listed = [f"<extra_id_{i}>" for i in range(300)]
    told = {"extra_ids": 300, "additional_special_tokens": listed}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(told), encoding="utf-8")
    (tmp_path / "spiece.model").write_bytes(hf_models.SPIECE.read_bytes())
    assert read_vocabulary(tmp_path, {"vocab_size": 4096}).extra_ids == 300
    (tmp_path / "spiece.model").write_bytes(b"")
    with pytest.raises(UserError, match="0 pieces"):
        read_vocabulary(tmp_path, {"vocab_size": 4096})


def test_an_export_takes_its_place_only_when_it_is_whole(converted, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    export_model(str(converted.workdir), str(tmp_path / "link"))
    assert same_bits(target, converted.original)
    with pytest.raises(UserError, match="is not empty"):
        export_model(str(converted.workdir), str(tmp_path / "link"))
    assert {path.name for path in tmp_path.iterdir()} == {"target", "link"}
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("loop", "loop/x"):
        with pytest.raises(UserError, match=f"DEST: '.*{name}' is no path"):
            export_model(str(converted.workdir), str(tmp_path / name))


def test_an_import_that_was_killed_is_done_again(original, tmp_path):
    """Wherever it was; what else lies there is nobody's business."""
    work = import_checkpoint(str(original), str(tmp_path / "work"))
    (work / "run.json").unlink()
    assert import_checkpoint(str(original), str(work)) == work and (work / "run.json").exists()
    mine = tmp_path / "other" / "1-import" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.touch()
    with pytest.raises(UserError, match="is not empty"):
        import_checkpoint(str(original), str(tmp_path / "other"))
    assert mine.exists()


def test_a_directory_of_transformers_is_served_as_it_lies(original, tmp_path):
    work = import_checkpoint(str(original), str(tmp_path / "work"))
    ours, theirs = (LanguageModel(str(path), {"data": 1}) for path in (work, original))
    texts = ["where does Anna live?", "what?"]
    assert theirs.prompts == () and theirs.generate(texts) == ours.generate(texts)
    with pytest.raises(UserError, match="is no work directory"):
        LanguageModel(str(tmp_path))
