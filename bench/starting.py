"""How a bench begins and ends as a command."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from promot_jax.errors import UserError
from promot_jax.process import restart_as_wished


def start(main: Callable[[], object], name: str) -> NoReturn:
    """Runs it as the console script runs `promot`; what a user can mend is one line.

    Args:
      main: what it returns, if it is a number, is the exit code.
      name: of the module, as `python -m` takes it.
    """
    restart_as_wished()
    from promot_jax.training import Interrupted  # it imports JAX, after the restart

    try:
        code = main()
    except UserError as error:
        raise SystemExit(f"{name}: {error}") from error
    except Interrupted as stop:
        print(f"{name}: {stop}", file=sys.stderr)
        code = os.EX_TEMPFAIL
    sys.exit(code if isinstance(code, int) else 0)
