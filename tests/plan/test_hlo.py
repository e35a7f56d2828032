"""Reading compiled programs: loops in full, groups of chips, what lies in HBM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxlib import _hlo

from promot_jax.plan.costs import cost, flops
from promot_jax.plan.hlo import Module, bytes_of

# As libtpu writes it: no trip count, the limit in the condition, two rounds unrolled into one.
TWO_AT_ONCE = """HloModule two

%body (state: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %state = (s32[], f32[8,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %two = s32[] constant(2)
  %next = s32[] add(%i, %two)
  %x = f32[8,8]{1,0:T(8,128)S(1)} get-tuple-element(%state), index=1
  %once = f32[8,8]{1,0:T(8,128)S(1)} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %twice = f32[8,8]{1,0} dot(%once, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %out = (s32[], f32[8,8]{1,0}) tuple(%next, %twice)
}

%goes_on (state: (s32[], f32[8,8])) -> pred[] {
  %state.1 = (s32[], f32[8,8]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  %limit = s32[] constant(9)
  ROOT %less = pred[] compare(%i.1, %limit), direction=LT
}

ENTRY %main (x: f32[8,8]) -> f32[8,8] {
  %x.1 = f32[8,8]{1,0} parameter(0)
  %zero = s32[] constant(1)
  %start = (s32[], f32[8,8]{1,0}) tuple(%zero, %x.1)
  %loop = (s32[], f32[8,8]{1,0}) while(%start), condition=%goes_on, body=%body
  ROOT %result = f32[8,8]{1,0} get-tuple-element(%loop), index=1
}
"""


def whole(function, *shapes) -> Module:
    """A program before it is compiled."""
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    lowered = jax.jit(function).lower(*arguments)
    module = lowered.compiler_ir("hlo").get_hlo_module()
    return Module(module.to_string(_hlo.HloPrintOptions()))


def test_a_loop_counts_in_full():
    module = Module(TWO_AT_ONCE)
    assert dict(module.runs()) == {"main": 1, "body": 4}  # from 1 below 9, by twos
    # Two products of 8 x 8 x 8 and an addition, four times; a condition counts once.
    assert flops(module) == 4 * (2 * 2 * 8**3 + 1) + 1


def test_what_lies_on_the_core_is_no_traffic():
    array = 8 * 8 * 4
    # The second product reads nothing from HBM and writes there; the addition's numbers are small.
    assert array * 4 <= cost(Module(TWO_AT_ONCE), 1).traffic <= array * 4 + 100
    assert bytes_of("(bf16[2,3]{1,0}, u32[]{:S(2)}, pred[4])") == 12 + 4 + 4
    assert bytes_of("(bf16[2,3]{1,0}, u32[]{:S(2)}, pred[4])", in_hbm=True) == 12 + 4


@pytest.mark.parametrize("length", [1, 2, 7])
def test_a_scan_is_its_layers(length):
    """Also one inside another."""

    def scanned(x, layers):
        layer = lambda x, w: (jax.lax.fori_loop(0, 3, lambda _, x: x @ w, x), None)  # noqa: E731
        return jax.lax.scan(layer, x, layers)[0]

    found = flops(whole(scanned, (16, 16), (length, 16, 16)))
    expected = length * 3 * 2 * 16**3
    assert expected <= found <= expected * 1.01


def test_only_what_is_taken_out_is_moved():
    """A scan reads each layer's weights once, not all of them for every layer."""

    def scanned(x, layers):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, layers)[0]

    arguments = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((64, 64), (50, 64, 64))]
    compiled = jax.jit(scanned).lower(*arguments).compile()
    (module,) = compiled.runtime_executable().hlo_modules()
    moved = cost(Module(module.to_string()), 1).traffic
    array = 64 * 64 * 4
    assert 50 * 3 * array <= moved <= 50 * 8 * array  # two are read, one written, some copied


# As libtpu writes them: two stacks get a layer each by one fusion, of which another reads inside a
# third; memory that is only set aside; a part of an array that goes to the core.
IN_PARTS = """HloModule parts

%put (a: f32[50,64], b: f32[50,64], x: f32[1,64], i: s32[]) -> (f32[50,64], f32[50,64], f32[64]) {
  %a = f32[50,64]{1,0} parameter(0)
  %b = f32[50,64]{1,0} parameter(1)
  %x = f32[1,64]{1,0} parameter(2)
  %i = s32[] parameter(3)
  %zero = s32[] constant(0)
  %one = f32[50,64]{1,0} dynamic-update-slice(%a, %x, %i, %zero)
  %two = f32[50,64]{1,0} dynamic-update-slice(%b, %x, %i, %zero)
  %same = f32[50,64]{1,0} bitcast(%two)
  %row = f32[64]{0} bitcast(%x)
  ROOT %out = (f32[50,64]{1,0}, f32[50,64]{1,0}, f32[64]{0}) tuple(%one, %same, %row)
}

%inner (stack: f32[50,64], i.1: s32[]) -> f32[1,64] {
  %stack = f32[50,64]{1,0} parameter(0)
  %i.1 = s32[] parameter(1)
  %zero.1 = s32[] constant(0)
  ROOT %layer = f32[1,64]{1,0} dynamic-slice(%stack, %i.1, %zero.1), dynamic_slice_sizes={1,64}
}

%outer (stack.1: f32[64,50], i.2: s32[]) -> f32[1,64] {
  %stack.1 = f32[64,50]{0,1} parameter(0)
  %i.2 = s32[] parameter(1)
  %turned = f32[50,64]{1,0} bitcast(%stack.1)
  %taken = f32[1,64]{1,0} fusion(%turned, %i.2), kind=kLoop, calls=%inner
  ROOT %less = f32[1,64]{1,0} negate(%taken)
}

ENTRY %main (x.1: f32[1,64], i.3: s32[], turned.1: f32[64,50]) -> f32[1,64] {
  %x.1 = f32[1,64]{1,0} parameter(0)
  %i.3 = s32[] parameter(1)
  %turned.1 = f32[64,50]{0,1} parameter(2)
  %aside = f32[50,64]{1,0} custom-call(), custom_call_target="AllocateBuffer"
  %aside.1 = f32[50,64]{1,0} custom-call(), custom_call_target="AllocateBuffer"
  %written = (f32[50,64]{1,0}, f32[50,64]{1,0}, f32[64]{0:S(1)}) fusion(%aside, %aside.1, %x.1, %i.3), kind=kLoop, calls=%put
  %first = f32[50,64]{1,0} get-tuple-element(%written), index=0
  %half = ((f32[50,64]{1,0}), f32[25,64]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%first), slice={[0:25], [0:64]}
  %done = f32[25,64]{1,0:S(1)} slice-done(%half)
  ROOT %read = f32[1,64]{1,0} fusion(%turned.1, %i.3), kind=kLoop, calls=%outer
}
"""  # noqa: E501


def test_of_stacks_that_are_fused_a_layer_is_moved():
    layer, number = 64 * 4, 4
    put = layer + number + 2 * layer  # the layer is read once, and written to both stacks
    read = layer + number + layer
    assert cost(Module(IN_PARTS), 1).traffic == put + 25 * layer + read


GROUPS = {
    "replica_groups={{0,1},{2,3}}": [[0, 1], [2, 3]],
    "replica_groups={}": [[0, 1, 2, 3, 4, 5, 6, 7]],
    "replica_groups=[4,2]<=[8]": [[0, 1], [2, 3], [4, 5], [6, 7]],
    "replica_groups=[2,4]<=[4,2]T(1,0)": [[0, 2, 4, 6], [1, 3, 5, 7]],
    "replica_groups=mesh['a'=2,'b'=4] {'b'}": [[0, 1, 2, 3], [4, 5, 6, 7]],
    "replica_groups=mesh['a'=2,'b'=4] {'a'}": [[0, 4], [1, 5], [2, 6], [3, 7]],
    "replica_groups=mesh['a'=8] {'a':(2)2}": [[0, 2], [1, 3], [4, 6], [5, 7]],
    "source_target_pairs={{0,1},{1,0}}": [[0, 1], [1, 0]],
}
ALL_REDUCE = """HloModule reduce

%add (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}}

ENTRY %main (x: f32[100]) -> f32[100] {{
  %x = f32[100]{{0}} parameter(0)
  ROOT %r = f32[100]{{0}} {opcode}(%x), channel_id=1, {groups}, to_apply=%add
}}
"""


@pytest.mark.parametrize("written", GROUPS)
def test_groups(written):
    text = ALL_REDUCE.format(opcode="all-reduce", groups=written)
    found = Module(text).computations["main"]["r"].groups(8)
    np.testing.assert_array_equal(found, GROUPS[written])


def test_what_is_sent_and_how_far():
    groups = "replica_groups=[4,2]<=[8]"
    near, far = (
        cost(Module(ALL_REDUCE.format(opcode="all-reduce", groups=g)), 8, slices=2)
        for g in (groups, f"{groups[:-3]}[2,4]T(1,0)")
    )
    assert (near.sent(False), near.sent(True)) == (400, 0)  # 2 x 400 bytes x 1/2
    assert (far.sent(False), far.sent(True)) == (0, 400)
    (found,) = near.collectives
    assert (found.kind, found.count, found.largest) == ("all-reduce", 1, 400)


BETWEEN_SLICES = f"""HloModule slices

%add (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}}

%all-reduce-scatter.1 (input: f32[400]) -> f32[100] {{
  %input = f32[400]{{0}} parameter(0)
  %i = s32[] constant(0)
  %all = f32[400]{{0}} all-reduce(%input), {"channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}"}\
, to_apply=%add
  ROOT %mine = f32[100]{{0}} dynamic-slice(%all, %i), dynamic_slice_sizes={{100}}
}}

ENTRY %main (x: f32[400]) -> token[] {{
  %x = f32[400]{{0}} parameter(0)
  %begin = token[] after-all()
  %part = f32[100]{{0}} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
  %send = (f32[100]{{0}}, u32[], token[]) send(%part, %begin), channel_id=1, \
is_host_transfer=true, frontend_attributes={{_xla_megascale_transfer_type="ALL_REDUCE"}}
  ROOT %sent = token[] send-done(%send), channel_id=1, is_host_transfer=true
}}
"""


def test_gradients_that_go_to_other_slices():
    """As libtpu writes it: within a slice a scattered sum, whose parts the hosts then exchange."""
    found = cost(Module(BETWEEN_SLICES), 8, slices=2)
    kinds = {(x.kind, x.between_slices): (x.count, x.sent) for x in found.collectives}
    assert kinds[("reduce-scatter", False)] == (1, 1200)  # 3 of 4 parts of 1600 bytes
    assert kinds[("all-reduce", True)] == (1, pytest.approx(400, rel=0.02))
    assert len(kinds) == 2


def test_kernels_are_known():
    text = TWO_AT_ONCE.replace(
        "dot(%once, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}",
        'custom-call(%once), custom_call_target="tpu_custom_call"',
    )
    assert cost(Module(text), 1).kernels and not cost(Module(TWO_AT_ONCE), 1).kernels
