"""Chat templates: the texts that Transformers render, and where a target begins and ends."""

import dataclasses

import pytest
import small_tokenizers
from small_tokenizers import FAMILIES

from promot_jax import data, vocabularies
from promot_jax.errors import UserError

WITH_TEMPLATE = [name for name in FAMILIES if name != "llama2"]


def chat(tmp_path, template, family="smollm2"):
    directory = FAMILIES[family](tmp_path / "x")
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    return data.tokenizer(str(directory), chat=True)


def theirs(directory):
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(directory)


def message(role, content):
    return {"role": role, "content": content}


@pytest.mark.parametrize("family", WITH_TEMPLATE)
def test_texts_and_ids_of_transformers(tmp_path, family):
    directory = FAMILIES[family](tmp_path / "x")
    ours, other = data.tokenizer(str(directory), chat=True), theirs(directory)
    for text, answer in [("Capital of France?", "Paris"), ("a\nb <b> 'ü'", "1 & 2\n3"), ("", "x")]:
        user, assistant = message("user", text), message("assistant", answer)
        asked = other.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
        assert ours.render(text) == asked
        ids = other.apply_chat_template([user], add_generation_prompt=True, return_dict=False)
        assert ours.encode(ours.render(text)) == ids and ours.bos_id is None
        before, after = ours.turn(text, answer)
        assert before == asked and after == answer
        whole = other.apply_chat_template([user, assistant], tokenize=False)
        assert whole.rstrip() == before + after + ours._tokenizer.id_to_token(ours.eos_id)


@pytest.mark.parametrize("family", WITH_TEMPLATE)
def test_a_turn_ends_in_eos(tmp_path, family):
    """Gemma's EOS is another than what ends its turns."""
    directory = FAMILIES[family](tmp_path / "x")
    ours = data.tokenizer(str(directory), chat=True)
    end = "<end_of_turn>" if family == "gemma" else "<|im_end|>"
    assert [ours.eos_id] == ours.encode(end) and ours.eos_id in ours.stop_ids
    plain = data.tokenizer(str(directory))
    assert set(plain.stop_ids) <= set(ours.stop_ids)
    assert ours.with_chat(False).eos_id == plain.eos_id == plain.special.eos_id
    assert plain.render("x") == "x" and plain.turn("x", "y") == ("x", "y")


def test_a_template_that_thinks(tmp_path):
    """What it writes in front of every answer is given, as Qwen 3's empty thoughts are."""
    template = small_tokenizers.CHATML.replace(
        "message['content']",
        "('<think>\n</think>\n' if message['role'] == 'assistant' else '') + message['content']",
    )
    ours = chat(tmp_path, template)
    before, after = ours.turn("q", "a")
    assert before.endswith("assistant\n<think>\n</think>\n") and after == "a"
    assert ours.render("q") == before
    asked = ours.converse([message("user", "q")], True)  # of people who do it by themselves
    assert before == asked + "<think>\n</think>\n"


def test_a_template_without_an_end(tmp_path):
    ours = chat(tmp_path, "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"
                "{% if add_generation_prompt %}[assistant] {% endif %}")  # fmt: skip
    assert ours.turn("q", "a") == ("[user] q [assistant] ", "a ")
    assert ours.eos_id == ours.special.eos_id


NAMES = (
    "{{ tools is none }} {{ documents is none }} {{ strftime_now('%Y')|length }} "
    "{{ {'ü': '<b>'} | tojson }} {{ bos_token }} {{ eos_token }} {% for x in [1, 2, 3] %}"
    "{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}{% set ns = namespace(a=1) %}"
    "{% set ns.a = 5 %}{{ ns.a }}{% generation %}g{% endgeneration %}{{ dict(a=1) }}"
)


def test_names_that_a_template_may_use(tmp_path):
    ours = chat(tmp_path, NAMES + small_tokenizers.CHATML)
    asked = [message("user", "x")]
    assert ours.render("x").startswith(
        'True True 4 {"ü": "<b>"} <|im_start|> <|im_end|> 15g{\'a\': 1}'
    )
    other = theirs(tmp_path / "x")
    whole = other.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert ours.render("x") == whole


BAD = {
    "{% if %}": "cannot be read",
    "{{ raise_exception('only pairs') }}": r"fails \(TemplateError: only pairs\)",
    "{{ messages[7].content.x }}": "fails",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}": "fails",
    "{{ messages.append(1) }}": "fails",
    "{{ messages[-1].content }}{% if add_generation_prompt %}A:{% endif %}": (
        "writes an assistant's turn otherwise"
    ),
}


@pytest.mark.parametrize("template", BAD)
def test_templates_that_cannot_be_used(tmp_path, template):
    with pytest.raises(UserError, match=f"the chat template {BAD[template]}.*set chat = False"):
        chat(tmp_path, template)


def test_no_template(tmp_path):
    directory = small_tokenizers.llama2(tmp_path / "x")
    with pytest.raises(UserError, match=r"chat = True, but .* no chat template .* set False"):
        data.tokenizer(str(directory), chat=True)
    with pytest.raises(UserError, match="chat = True, but"):
        data.byte().with_chat(True)
    assert data.byte().with_chat(False) == data.byte()


def test_named_templates(tmp_path):
    named = [
        {"name": "tool_use", "template": "x"},
        {"name": "default", "template": small_tokenizers.CHATML},
    ]
    ours = data.tokenizer(
        str(small_tokenizers.smollm2(tmp_path / "x", chat_template=named)), chat=True
    )
    assert ours.template == small_tokenizers.CHATML
    directory = small_tokenizers.smollm2(tmp_path / "y", chat_template=3)
    with pytest.raises(UserError, match="chat_template = 3: give a text"):
        data.tokenizer(str(directory))


TODAY = "{{ strftime_now('%d %b %Y') }} " + small_tokenizers.CHATML


def test_the_day_stays_that_of_the_work_directory(tmp_path):
    ours = chat(tmp_path, TODAY)
    asked = theirs(tmp_path / "x").apply_chat_template([message("user", "x")], tokenize=False)
    assert ours.render("x").startswith(asked)
    before = dataclasses.replace(ours, day="2024-07-26")
    assert before == ours and before.render("x").startswith("26 Jul 2024 ")
    again = vocabularies.build(before.settings(), before.files())
    assert again.render("x") == before.render("x") == again.with_chat(True).render("x")
    assert again.with_chat(False).with_chat(True).day == ours.day
    assert "day" not in again.with_chat(False).settings()
    for day in ("yesterday", "2024-13-01"):
        with pytest.raises(UserError, match="day = '.*': give one like 2024-12-31"):
            dataclasses.replace(ours, day=day)
