"""JSON that others may have changed, and checksums that see where it was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promot_jax.errors import UserError
from promot_jax.files import parse_json, read_json, seal, unseal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_a_seal_survives_json(values):
    sealed = json.loads(json.dumps(seal(values)))
    assert unseal(sealed) == {name: x for name, x in values.items() if name != "check"}
    assert seal(sealed) == sealed


@given(st.integers(0), st.integers(0, 7))
def test_a_seal_sees_every_bit(place, bit):
    text = bytearray(json.dumps(seal({"score": 0.75, "task": "nli", "rows": [1, 2]})).encode())
    text[place % len(text)] ^= 1 << bit
    try:
        found = unseal(parse_json(bytes(text).decode()))
    except (ValueError, AttributeError, TypeError):
        return
    assert found == {"score": 0.75, "task": "nli", "rows": [1, 2]}


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "[" * 10**5, "", "{"])
def test_what_is_no_json(text):
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize(
    "content", [b"[]", b"3", b"", b"\xff\xfe", b"[" * 10**5, b'{"a": NaN}', b'{"a": 1} 2']
)
def test_a_damaged_file_names_itself(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a.json is damaged \(.*\): restore it"):
        read_json(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")
