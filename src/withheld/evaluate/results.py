"""results.jsonl: what was measured, a line each, as it is measured."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from withheld.learn.checkpoint import writing


def add_results(path: Path | None, *lines: dict[str, Any]) -> None:
    """Appends lines, which are on the disk then; of none, sees to it that there is a file. What is no number becomes null.

    Args:
        path: of results.jsonl; None keeps nothing.

    Raises:
        CannotWrite: where that fails.
    """
    if path is None:
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(_finite(line), allow_nan=False) + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
