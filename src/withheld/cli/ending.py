"""How the program ends: a message that helps, the documented exit code, and no traceback for what the user can mend."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import click

from withheld.errors import RankFailed, Terminated, WithheldError, printable

OUT_OF_MEMORY = 75
CANNOT_WRITE = 74
DISK = {errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def ending(command: Callable[[], Any]) -> NoReturn:
    """Calls a command and leaves the program with the exit code of what happened."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # a name that the terminal's encoding has no letters for is no reason to end
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        result = command()
    except Exception as error:
        if os.environ.get("WITHHELD_DEBUG"):
            import traceback

            traceback.print_exc()
        code = _code(error)
        if code is None:
            raise
        if isinstance(error, RankFailed) and int(os.environ.get("WORLD_SIZE") or 1) > 1:
            _leave(code)
        sys.exit(code)
    except KeyboardInterrupt as error:
        complain(f"stopped by {'SIGTERM' if isinstance(error, Terminated) else 'Ctrl-C'}")
        sys.exit(143 if isinstance(error, Terminated) else 130)
    sys.exit(result if isinstance(result, int) else 0)


def _terminate(number: int, frame: Any) -> NoReturn:
    raise Terminated


def _leave(code: int) -> NoReturn:
    """At once: tidying up could wait for processes that are no more."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def complain(message: str, prefix: str = "error: ") -> None:
    """Writes to stderr; control characters of file names are shown and not obeyed."""
    click.echo(f"{prefix}{printable(message)}", err=True)


def _code(error: Exception) -> int | None:
    """Tells the user what happened; None where it is our bug and the traceback should show."""
    rank = int(os.environ.get("RANK") or 0)
    if isinstance(error, click.Abort):
        complain("stopped")
        return 143 if isinstance(error.__cause__, Terminated) else 130
    if isinstance(error, click.ClickException):
        if rank == 0:
            error.show()
        return error.exit_code
    if isinstance(error, WithheldError):
        # Every rank meets the same bad input and the same Ctrl-C: once is enough.
        if rank == 0 or isinstance(error, RankFailed):
            complain(str(error), f"rank {rank}: " if rank else "" if error.exit_code > 128 else "error: ")
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        _close_quietly()
        return 0
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        complain(f"out of memory ({_first_line(error)}). The last checkpoint is intact: try half the --batch-size.")
        return OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in DISK:
        complain(
            f"{error.strerror}: {error.filename or 'while writing'}. Free some space, then run again with --resume."
        )
        return CANNOT_WRITE
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _close_quietly() -> None:
    """Whoever read our output has left (`withheld list | head`): Python shall not complain about it at the end."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
