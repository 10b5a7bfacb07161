"""The smallest whole thing stays small, alone, and true."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path


def test_it_is_short_and_imports_nothing_of_ours(root: Path) -> None:
    text = (root / "examples" / "mini.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= {"__future__", "typing", "numpy", "torch", "sklearn"}


def test_what_was_withheld_helps(root: Path) -> None:
    found = runpy.run_path(str(root / "examples" / "mini.py"))["main"]()
    for labels_per_class, (pixels, features) in found.items():
        assert features > pixels, f"{labels_per_class} labels per class: pixels {pixels}, features {features}"
