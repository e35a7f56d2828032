"""Options of XLA's compiler, for each platform its own, by the names that XLA gives them:

    {"tpu": {"xla_tpu_scoped_vmem_limit_kib": 65536}, "gpu": {"xla_gpu_enable_triton_gemm": False}}

Those of other platforms than the mesh's are left alone, so that one setting serves all machines.
Which options there are depends on the versions of JAX and libtpu. The same names, with `--` in
front, are what the variables XLA_FLAGS and LIBTPU_INIT_ARGS take, for all programs of a process.
"""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from promot_jax.errors import UserError, near
from promot_jax.training.mesh import replicated

PLATFORMS = ("tpu", "gpu", "cpu")
Options = Mapping[str, Mapping[str, bool | int | float | str]]


def options_of(given: Options, mesh: Mesh) -> dict[str, Any]:
    """The options that programs on a mesh are compiled with.

    Raises:
      UserError: an unknown platform, or what the mesh's compiler does not take.
    """
    if unknown := set(given) - set(PLATFORMS):
        name = sorted(unknown)[0]
        raise UserError(
            f"COMPILER_OPTIONS is for the platform {name!r}{near(name, PLATFORMS)}: the platforms"
            f" are {', '.join(PLATFORMS)}"
        )
    platform = mesh.devices.flat[0].platform
    options = dict(given.get(platform, {}))
    for name, value in options.items():
        number = jax.ShapeDtypeStruct((), float, sharding=replicated(mesh))
        try:
            jax.jit(lambda x: x).lower(number).compile(compiler_options={name: value})
        except jax.errors.JaxRuntimeError as error:
            said = str(error).partition("\n")[0].removeprefix("INVALID_ARGUMENT: ")
            raise UserError(
                f"COMPILER_OPTIONS has {name} = {value!r} for {platform!r}, which XLA does not take"
                f" ({said}): correct it or leave it out"
            ) from error
    return options
