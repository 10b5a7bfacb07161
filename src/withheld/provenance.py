"""How a number came to be: versions, commit and command, written beside it."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import withheld
from withheld.redact import redact


def versions() -> dict[str, str]:
    """What a run was made with."""
    import torch
    import transformers

    return {
        "withheld": withheld.__version__, "torch": str(torch.__version__), "transformers": transformers.__version__,
        "python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}",
    }  # fmt: skip


def commit_of_code() -> str:
    """The git commit of the library's own checkout, or "" where it is installed."""
    folder = Path(withheld.__file__).parent
    if not (folder.parents[1] / ".git").exists():
        return ""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5, check=True
        )
        return found.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def command_line() -> str:
    """The command that is running, as one would type it, without tokens; "" inside an interactive session or notebook."""
    name = Path(sys.argv[0]).name
    if not name or name.startswith(("-", "ipykernel")):
        return ""
    return redact(shlex.join(["withheld" if name in ("withheld", "__main__.py") else name, *sys.argv[1:]]))


def now() -> str:
    """The time, to the second, with its zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def location_of(data: Any) -> str:
    """Where data came from, in words, without passwords."""
    return redact(str(data)) if isinstance(data, (str, Path)) else f"{type(data).__name__} in memory"


def plain(value: Any) -> Any:
    """A setting as JSON keeps it."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value if isinstance(value, (str, int, float, bool)) or value is None else type(value).__name__


def fitted_of(split: Any) -> dict[str, Any]:
    """The fields of a split as the data has made them, so that a reopened run hides as it was trained; see `refitted`."""
    from withheld.types import FunctionSplit

    if split is None or isinstance(split, FunctionSplit):
        return {}
    return plain(dataclasses.asdict(split))  # type: ignore[no-any-return]


def refitted(split: Any, fitted: dict[str, Any]) -> Any:
    """A split, or a part of one that is a dataclass itself, with these fields."""
    fields = {
        name: refitted(getattr(split, name), value) if isinstance(value, dict) else _tuple(value)
        for name, value in fitted.items()
    }
    return dataclasses.replace(split, **fields) if fields else split


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
