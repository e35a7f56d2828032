"""Options of the compiler: each platform's own, checked before anything long, and used."""

import types

import jax
import numpy as np
import pytest
from tiny_training import fine_tuning, loss_of, tiny, variables_of

from promot_jax.errors import UserError
from promot_jax.models import Decoding
from promot_jax.run.generation import Generator
from promot_jax.training import assign, begin, make_mesh, thaw, use
from promot_jax.training.compiling import options_of
from promot_jax.training.loop import lower_step

BATCH = (
    "encoder_input_tokens", "encoder_segment_ids", "decoder_input_tokens", "decoder_target_tokens",
    "decoder_loss_weights",
)  # fmt: skip
OPTION, UNKNOWN = "xla_cpu_enable_fast_math", {"xla_cpu_no_such_thing": True}


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(devices=jax.devices("cpu")[:1])


def test_each_platform_has_its_own(mesh):
    given = {"cpu": {OPTION: False}, "tpu": UNKNOWN, "gpu": {}}
    assert options_of(given, mesh) == {OPTION: False}
    assert options_of({"tpu": UNKNOWN}, mesh) == options_of({}, mesh) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gpus": {}}, r"COMPILER_OPTIONS .* 'gpus' \(did you mean .*'gpu'.* tpu, gpu, cpu"),
        ({"cpu": UNKNOWN}, "xla_cpu_no_such_thing = True for 'cpu', .*No such compile option"),
        ({"cpu": {OPTION: "perhaps"}}, f"{OPTION} = 'perhaps' .* not a valid bool"),
    ],
)
def test_what_the_compiler_does_not_take(mesh, given, message):
    with pytest.raises(UserError, match=message) as error:
        options_of(given, mesh)
    assert len(str(error.value).splitlines()) == 1


def test_steps_and_answers_are_compiled_with_them(mesh):
    """The compiler itself refuses one that nobody has checked."""
    model = tiny()
    variables, parts = variables_of(model), fine_tuning()
    owner = assign(parts, variables)
    state, frozen = thaw(begin(mesh, 0), variables, parts, owner)
    rows = {name: np.ones((2, 4), np.int32) for name in BATCH}
    settings = {"loss": loss_of(model), "parts": parts, "owner": owner, "accumulate": 1}
    with use(mesh):
        step = lower_step(state, frozen, rows, options=UNKNOWN, **settings)
    generator = Generator(model, mesh, types.SimpleNamespace(stop_ids=(1,)), UNKNOWN)
    for lowered in (step, generator.lower(variables, 2, 4, Decoding(2))):
        with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
            lowered.compile()
