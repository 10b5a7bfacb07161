"""What every command that judges has in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from withheld.narrator import Narrator
from withheld.screen import Screen


def judge_aloud(screen: Screen, folder: Path, measure: Callable[..., Any], show: Callable[[Any], None]) -> Any:
    """Measures with progress, shows what was found, and ends in the report of the folder and the closing sentence.

    Args:
        measure: is given where results go, the command, and who listens.
    """
    from withheld.provenance import command_line
    from withheld.report import write

    folder.mkdir(parents=True, exist_ok=True)
    with Narrator(screen) as narrator:
        found = measure(results=folder / "results.jsonl", command=command_line(), listen=narrator.hear)
    show(found)
    screen.say(f"Report: {write(folder)}")
    screen.result(found.sentence)
    return found
