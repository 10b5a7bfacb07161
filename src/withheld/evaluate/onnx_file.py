"""What every export to ONNX shares: its version, and running the file beside the library."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from withheld.errors import InputError, WithheldError

OPSET = 18
"""Fixed, so that a file does not change with the exporter's taste."""
TOLERANCE = 1e-4


def need_onnx() -> None:
    """Says how to install what is missing.

    Raises:
        InputError: where something is.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"--to onnx needs {', '.join(missing)}: " + 'pip install "withheld[onnx]"')


def compare_onnx(
    path: Path, given: dict[str, Any], expected: Sequence[Tensor], out: Path, where: Mapping[int, Any] | None = None
) -> None:
    """Runs a file with onnxruntime and compares what it gives with the library.

    Args:
        path: the file. out: what it will be called.
        given: its inputs by name.
        expected: its outputs, in order.
        where: of an output's number, the places that count.

    Raises:
        WithheldError: where they differ.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for number, (ours, theirs) in enumerate(zip(expected, session.run(None, given), strict=True)):
        apart = np.abs(ours.numpy() - theirs)
        if where is not None and number in where:
            apart = apart[where[number]]
        gap = float(apart.max())
        if not gap <= TOLERANCE * max(1.0, float(ours.abs().max())):
            raise WithheldError(f"{out}: onnxruntime differs from the library by {gap:.1e}; nothing was written")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporter and transformers print reports and warn of their own insides; failures still raise."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
