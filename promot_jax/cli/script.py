"""The console script: it answers signals before it imports anything heavy."""

import signal

# Until `script` answers them; else Ctrl-C is a traceback of the imports.
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))

import sys  # noqa: E402
import traceback  # noqa: E402

from promot_jax.process import (  # noqa: E402
    AGAIN,
    CLOSED,
    answer_signals,
    leave,
    prepare_streams,
    restart_as_wished,
)


def script() -> int:
    """Runs the command line; returns the exit code, or ends the process with it."""
    prepare_streams()
    answer_signals()
    restart_as_wished()
    from promot_jax.cli.main import main

    try:
        code = main()
    except SystemExit as stop:  # of argparse
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        sys.stdout.flush()  # else it fails when Python ends, which is two lines and exit code 120
    except OSError:
        leave(code or CLOSED)
    if code not in (0, 2, AGAIN):  # these wait for the other hosts
        leave(code)
    return code


if __name__ == "__main__":
    sys.exit(script())
