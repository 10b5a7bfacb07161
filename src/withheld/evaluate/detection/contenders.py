"""The rows of a verdict on detection: who takes part, and what was measured of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from withheld.data.few import interval
from withheld.data.source import digest
from withheld.evaluate.compare import PRETRAINED, PUBLIC, RANDOM, SCRATCH, Row
from withheld.evaluate.detection.book import Book
from withheld.evaluate.detection.trial import Head
from withheld.evaluate.sentence import FINE_TUNED, PROBE, RANDOM_ROW, SCRATCH_ROW
from withheld.image_encoder import ImageEncoder


@dataclass(frozen=True)
class Contender:
    """One row: an encoder, trained end to end ("softmax") or as it is under machines ("svm").

    Attributes:
        key: tells its cells from others'; a rival's name may stand for other weights tomorrow.
    """

    row: str
    kind: str
    encoder: ImageEncoder
    head: Head
    key: str


def contenders(encoder: ImageEncoder, others: Sequence[tuple[str, ImageEncoder]], seed: int) -> list[Contender]:
    """The rows of a seed, the cheap ones first."""
    fresh = encoder.fresh(seed).eval()
    ours: list[tuple[str, str, ImageEncoder, Head]] = [
        (PROBE, PRETRAINED, encoder, "svm"), (RANDOM_ROW, RANDOM, fresh, "svm"),
        (FINE_TUNED, PRETRAINED, encoder, "softmax"), (SCRATCH_ROW, SCRATCH, fresh, "softmax"),
    ]  # fmt: skip
    rivals = [
        Contender(f"{name} fine-tuned", PUBLIC, other, "softmax", f"{name} {fingerprint(other)}")
        for name, other in others
    ]
    return [Contender(row, kind, of, head, row) for row, kind, of, head in ours] + rivals


def fingerprint(encoder: ImageEncoder) -> str:
    """A digest of an encoder's architecture, weights and how it is fed."""
    told = json.dumps(encoder.trunk.config.to_dict(), sort_keys=True, default=str)
    parts: list[str | bytes | int] = [told, str(encoder.mean), str(encoder.std), repr(encoder.split)]
    for name, value in encoder.trunk.state_dict().items():
        parts += [name, value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()]
    return digest(parts)[:16]


def rows_of(book: Book, order: Sequence[str], counts: Sequence[int], seeds: Sequence[int]) -> list[Row]:
    """What was measured, as rows whose counts are training images; the values are shares of 1."""
    rows: dict[str, Row] = {}
    for (key, count, seed), cell in sorted(book.cells.items()):
        if key in order and seed in seeds and count in counts and cell["value"] is not None:
            rows.setdefault(key, Row(cell["row"], cell["row_kind"])).add(count, seed, [cell["value"]])
    return [rows[key] for key in order if key in rows]


def table_of(book: Book, rows: Sequence[Row], order: Sequence[str], total: int) -> list[dict[str, Any]]:
    """A dict a row and number of images: mean and half the 95 % interval over seeds, and the means of all other scores.

    Args:
        rows: as `rows_of` gives them. order: the keys of these rows; under the same name others may be kept.
    """
    table = []
    for row in rows:
        for count in sorted(row.right):
            cells = [
                cell for (key, images, seed), cell in sorted(book.cells.items())
                if key in order and (cell["row"], images) == (row.method, count) and seed in row.right[count]
            ]  # fmt: skip
            values = [float(cell["value"]) for cell in cells]
            table.append({
                "row": row.method, "row_kind": row.kind, "images": count, "share": round(100 * count / total, 1),
                "mean": float(np.mean(values)), "half": interval(values), "values": values, "seeds": sorted(row.right[count]),
                "steps": cells[0]["steps"], **_means(cells),
            })  # fmt: skip
    return table


def _means(cells: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """{"scores": by measure, "AP": by class}, means over seeds."""
    first = cells[0]["scores"]
    plain = [name for name, value in first.items() if isinstance(value, float)]
    return {
        "scores": {name: float(np.mean([cell["scores"].get(name) or 0.0 for cell in cells])) for name in plain},
        "AP": {
            label: float(np.mean([cell["scores"]["AP"].get(label) or 0.0 for cell in cells])) for label in first["AP"]
        },
    }
