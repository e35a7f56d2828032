"""One device against eight virtual ones: the same losses, also across a change of mesh."""

from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tiny_training import DECODER, KINDS, T5

from promot_jax.errors import UserError
from promot_jax.training import check_batch, make_mesh, shardings
from promot_jax.training.mesh import local_rows

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def trained(on_eight_devices, tmp_path_factory):
    """What `mesh_run.py` prints."""
    where = str(tmp_path_factory.mktemp("meshes"))
    return on_eight_devices(HERE / "mesh_run.py", where, more=[HERE.parent / "run"])


RUNS = [
    (T5, run) for run in ("data", "fsdp_tensor", "one then fsdp_tensor", "fsdp_tensor then data")
]
RUNS += [(DECODER, run) for run in ("fsdp_tensor", "fsdp_tensor then one")]


@pytest.mark.parametrize(("kind", "run"), RUNS)
def test_losses_are_those_of_one_device(trained, kind, run):
    one = trained[kind]["one"]
    assert len(one) == 20 and one[-1] < one[0]
    np.testing.assert_allclose(trained[kind][run], one, rtol=1e-5)


def test_losses_of_lora_are_those_of_one_device(trained):
    one = trained["lora"]["one"]
    assert one[-1] < one[0]
    np.testing.assert_allclose(trained["lora"]["fsdp_tensor"], one, rtol=1e-5)


def test_a_run_goes_on_on_other_devices(trained):
    found = trained["run"]
    np.testing.assert_allclose(found["moves"], found["stays"], rtol=1e-5)
    assert len(found["stays"]) == 6
    for said, mesh in zip(
        found["said"],
        (None, None, "one device, was data 8", "data 4, was one device"),
        strict=True,
    ):
        lines = [line for line in said.splitlines() if "continues at step" in line]
        assert [line.partition(" on a mesh of ")[2] for line in lines] == ([mesh] if mesh else [])


def test_stages_that_do_not_train_do_as_on_one_device(trained):
    one, mesh = (trained["stages"][name] for name in ("one", "fsdp_tensor"))
    assert len(one["rows"].splitlines()) > 10 and mesh["rows"] == one["rows"]
    assert mesh["weights"] == pytest.approx(one["weights"], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_digests_are_those_of_one_device(trained, kind):
    assert len(set(trained[kind]["digests"])) == 1
    assert trained[kind]["gathers"] == 0  # no device needs a whole array for them


@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_laid_out(trained, kind):
    """Each layer's residual stream, heads and MLP, forward and backward, and the embeddings.

    Flax drops the constraints where `jax.set_mesh` has set no mesh.
    """
    least = {T5: 30, DECODER: 25}  # of an encoder's and a decoder's layer; of two without a cross
    assert trained[kind]["constraints"] > least[kind]
    assert "inside promot_jax.training.use(mesh)" in trained[kind]["refusal"]


def test_each_device_holds_its_part(trained):
    assert trained[T5]["bytes"] == {"one": 1, "data": 1, "fsdp_tensor": 1 / 8}
    assert trained[DECODER]["bytes"] == {"one": 1, "fsdp_tensor": 1 / 8}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"model": 2}, "MESH has the axis 'model': the axes are slice, data, fsdp, tensor"),
        ({"data": 3}, "does not fit 1 devices"),
        ({"data": 0}, "does not fit"),
        ({"data": -1, "fsdp": -1}, "does not fit"),
        ({"data": -1, "fsdp": 2}, "does not fit"),
    ],
)
def test_meshes_that_cannot_be(shape, message):
    with pytest.raises(UserError, match=message):
        make_mesh(shape, jax.devices()[:1])


class Device(SimpleNamespace):
    """What a mesh asks a device for."""

    __hash__ = object.__hash__


def devices_of(*places, platform="cpu"):
    """Devices of (process, slice or None); those of a TPU's slice lie in a row."""
    made = []
    for number, (process, part) in enumerate(places):
        about = {"platform": platform, "device_kind": platform, "id": number}
        if part is not None:
            about["slice_index"] = part
        nth = sum(part == other for _, other in places[:number])
        made.append(Device(process_index=process, coords=(nth, 0, 0), core_on_chip=0, **about))
    return made


def test_slices_are_outermost_and_by_what_devices_say():
    numbers = lambda devices, shape: [  # noqa: E731
        [device.id for device in part.flat] for part in make_mesh(shape, devices).devices
    ]
    said = devices_of((0, 1), (1, 0), (2, 1), (3, 0))
    by_process = devices_of((1, None), (0, None), (1, None), (0, None))
    alike = devices_of(*[(0, None)] * 4)
    two = {"slice": 2, "fsdp": -1}
    assert numbers(said, two) == [[1, 3], [0, 2]]
    assert numbers(by_process, two) == [[1, 3], [0, 2]]
    assert numbers(alike, two) == [[0, 1], [2, 3]]
    assert numbers(by_process, {"fsdp": 4}) == [[0, 1, 2, 3]]  # one slice: as they come


def test_slices_of_tpus_are_the_default():
    tpus = devices_of((0, 1), (0, 1), (1, 0), (1, 0), platform="tpu")
    mesh = make_mesh({"fsdp": -1}, tpus)
    assert dict(mesh.shape) == {"slice": 2, "data": 1, "fsdp": 2, "tensor": 1}
    assert [device.id for device in mesh.devices.flat] == [2, 3, 0, 1]
    check_batch(mesh, 8, "BATCH_SIZE", parts=2)
    with pytest.raises(UserError, match="slice x data x fsdp = 4: set a multiple of 4"):
        check_batch(mesh, 6, "BATCH_SIZE")
    with pytest.raises(UserError, match="slice = 1, but the devices are of 2 slices"):
        make_mesh({"slice": 1, "fsdp": -1}, tpus)
    with pytest.raises(UserError, match="does not fit 4 devices in 2 slices"):
        make_mesh({"fsdp": 4}, tpus)


def test_the_batch_must_divide():
    mesh = make_mesh(None, jax.devices()[:1])
    check_batch(mesh, 6, "batch_size", parts=3)
    with pytest.raises(UserError, match="batch_size = 7 is not a multiple .* set a multiple of 3"):
        check_batch(mesh, 7, "batch_size", parts=3)
    with pytest.raises(UserError, match="batch_size = 0"):
        check_batch(mesh, 0, "batch_size")
    assert local_rows(mesh, 6) == slice(0, 6)


def test_axes_must_divide_and_not_collide():
    mesh = jax.sharding.AbstractMesh((1, 4, 2), ("data", "fsdp", "tensor"))
    leaf = jax.ShapeDtypeStruct((6, 8), np.float32)
    with pytest.raises(
        UserError, match=r"fsdp = 4, which does not divide the embed axis \(6\) of p"
    ):
        shardings(mesh, {"p": leaf}, {"p": ("embed", "mlp")})
    with pytest.raises(UserError, match="lie along one mesh axis"):
        shardings(mesh, {"p": leaf}, {"p": ("mlp", "vocab")})
