"""What can go wrong, each with the exit code the command line documents.

Every message says three things: what is wrong, where (file, line, value), and how to mend it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

MOST_KNOWN = 60
"""Names that a hint lists: the pixels of images are thousands of columns."""


class WithheldError(Exception):
    """Something the user can act on: shown without a traceback, ends the program with `exit_code`."""

    exit_code = 1


class InputError(WithheldError, ValueError):
    """Bad input or settings, an existing run without `--resume` too."""

    exit_code = 2


class Diverged(WithheldError):
    """The loss is no longer a finite number; nothing of it reached a checkpoint."""

    exit_code = 3


class RunInUse(WithheldError):
    """Another process is writing to this run folder."""

    exit_code = 73


class CannotWrite(WithheldError):
    """The disk is full, read-only, or what should be a folder is a file."""

    exit_code = 74


class RankFailed(WithheldError):
    """One of several processes failed; the run can be resumed."""

    exit_code = 75


class Unreachable(WithheldError):
    """Data that lies elsewhere cannot be read, after several tries; a run can be resumed."""

    exit_code = 75


class Terminated(KeyboardInterrupt):
    """SIGTERM came where nothing has to be saved first: ends what is going on as Ctrl-C does."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint such as `did you mean 'ratio'? ` for a mistyped name, or the list where nothing is near, not all of thousands."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    rest = f" and {len(known) - MOST_KNOWN:,} more" if len(known) > MOST_KNOWN else ""
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known[:MOST_KNOWN]) or 'none'}{rest}"


def neighbor(path: Path) -> str:
    """A hint such as " (did you mean 'photos'?)" where something beside a path that is not there has a name like it."""
    try:
        names = [entry.name for entry in os.scandir(path.parent)][:2000]
    except OSError:
        return ""
    hint = nearest(path.name, names)
    return f" ({hint})" if hint.startswith("did you mean") else ""


def printable(text: str) -> str:
    """The text with control characters written out: a file name cannot move the cursor."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
