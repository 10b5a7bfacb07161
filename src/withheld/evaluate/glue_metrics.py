"""GLUE's metrics, in percent, and the files its server takes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ConstantInputWarning, pearsonr, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef

from withheld.data.glue import Sets, Task
from withheld.evaluate.compare import NORMAL, unanimous
from withheld.learn.checkpoint import writing

RESAMPLES = 100


def glue_metrics(task: Task, guess_N: NDArray, label_N: NDArray) -> dict[str, float]:
    """The task's metrics of guesses (classes, or scores); constant guesses have no correlation and give 0."""
    found = {}
    for name in task.metrics:
        if name == "accuracy":
            value = float((guess_N == label_N).mean())
        elif name == "f1":
            value = float(f1_score(label_N, guess_N, pos_label=1, zero_division=0))
        elif name == "matthews":
            value = float(matthews_corrcoef(label_N, guess_N))
        else:
            value = _correlation(name, guess_N, label_N)
        found[name] = 100 * value
    return found


def sampled_items(task: Task, label_N: NDArray, pairs: Sequence[tuple[NDArray, NDArray]]) -> float:
    """Half the 95 % interval, in points, that the sample of rows gives to a difference of the task's first metric.

    Source: the bootstrap (Efron 1979): rows are drawn again, the same for both guesses and all seeds.

    Args:
        pairs: one a seed: guesses (N,) of the first and of the second system.
    """
    first = replace(task, metrics=task.metrics[:1])
    score = lambda guess, at: next(iter(glue_metrics(first, guess[at], label_N[at]).values()))  # noqa: E731
    rng, found = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        at = rng.integers(0, len(label_N), len(label_N))
        found.append(np.mean([score(a, at) - score(b, at) for a, b in pairs]))
    return NORMAL * float(np.std(found, ddof=1)) or 100 * unanimous(len(label_N))


def _correlation(name: str, guess_N: NDArray, label_N: NDArray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        value = float((spearmanr if name == "spearman" else pearsonr)(guess_N, label_N)[0])
    return value if np.isfinite(value) else 0.0


def write_submission(folder: Path, sets: Sets, guesses: dict[str, NDArray]) -> list[Path]:
    """The files of the GLUE server for the test parts that were guessed: index and prediction, tab separated."""
    task, written = sets.task, []
    words = task.classes if task.classes and task.classes != ("0", "1") else ()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for part, guess in guesses.items():
            path = folder / task.submission[part]
            lines = ["index\tprediction"]
            for index, value in zip(sets.parts[part].index, guess, strict=True):
                if not task.classes:
                    told = f"{float(np.clip(value, 0, 5)):.3f}"
                else:
                    told = words[int(value)] if words else str(int(value))
                lines.append(f"{index}\t{told}")
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            written.append(path)
    return written
