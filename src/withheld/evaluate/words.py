"""Words as a model sees them, for the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw_words(objective: Any, encoder: Any, trial: Any, out: Path) -> None:
    """To come."""
