"""Hand-made run folders, as realistic as the real ones and written in milliseconds."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROWS = {
    "fine-tuned": (0.243, 0.452, 0.643),
    "linear probe": (0.262, 0.424, 0.531),
    "kNN": (0.222, 0.373, 0.462),
    "from scratch": (0.171, 0.302, 0.548),
    "random encoder, frozen": (0.152, 0.241, 0.318),
    "HOG + logistic regression": (0.201, 0.333, 0.471),
    "color histogram + logistic regression": (0.149, 0.228, 0.296),
    "public: facebook/dinov2-small, linear probe": (0.402, 0.664, 0.781),
}
LABELS = (1, 10, 100)
SENTENCE = (
    "With 10 labels per class, pretraining is worth +15.0 points (95 % CI 12.9 to 17.1) over training from scratch, "
    "as much as 4.6 times the labels."
)


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """A JSON object a line."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def run_json(**changes: Any) -> dict[str, Any]:
    """What `withheld pretrain` writes down about a run."""
    return {
        "method": "mae",
        "title": "Masked autoencoder",
        "modality": "image",
        "settings": {"ratio": 0.75, "decoder_width": 128, "decoder_depth": 4, "normalize": True},
        "split": "MaskPatches(patch=4, ratio=0.75, grid=(8, 8))",
        "data": {
            "location": "photos/cifar10.tar.gz",
            "kind": "tar",
            "items": 29996,
            "skipped": 4,
            "size": 32,
            "channels": 3,
            "fingerprint": "9f2c5a81b0f6a7de34c15a0b6a2f8f3d9f2c5a81b0f6a7de34c15a0b6a2f8f3d",
            "prepared_seconds": 11.83,
        },
        "encoder": {
            "name": "vit-tiny",
            "config": {"hidden_size": 192, "num_hidden_layers": 12, "patch_size": 4, "image_size": 32},
            "parameters": 5361984,
            "width": 192,
            "depth": 12,
            "patch": 4,
        },
        "mean": [0.4914, 0.4822, 0.4465],
        "std": [0.247, 0.2435, 0.2616],
        "seed": 0,
        "steps": 1800,
        "batch_size": 256,
        "shards": 8,
        "recipe": {
            "base_learning_rate": 0.0015,
            "weight_decay": 0.05,
            "betas": [0.9, 0.95],
            "warmup": 0.05,
            "schedule": "cosine",
        },
        "minutes": 10.0,
        "device": "cpu",
        "versions": {"withheld": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.17.0", "python": "3.11.2"},
        "commit": "a664bf5",
        "command": "withheld pretrain mae --data photos/cifar10.tar.gz --out runs/mae --minutes 10 --seed 0",
        "started": "2026-02-03T10:15:00+00:00",
        **changes,
    }


def log_lines(steps: int = 1800, every: int = 10) -> list[dict[str, Any]]:
    """A loss that falls, with noise and a warm-up."""
    draw = random.Random(0)
    lines = []
    for step in range(every, steps + 1, every):
        loss = 0.62 + 0.42 * math.exp(-step / 240) + 0.012 * draw.gauss(0, 1)
        warm = min(1.0, step / (0.05 * steps))
        rate = 0.0015 * warm * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        lines.append(
            {
                "step": step,
                "steps": steps,
                "epoch": step * 256 / 29996,
                "loss": loss,
                "terms": {"reconstruction": loss},
                "learning_rate": rate,
                "gradient_norm": 0.9 + 2 * math.exp(-step / 120) + 0.1 * abs(draw.gauss(0, 1)),
                "items_per_second": 768 + 22 * draw.gauss(0, 1),
                "seconds": step * 256 / 768,
                "vitals": {
                    "prediction_std": 0.3 + 0.4 * (1 - math.exp(-step / 300)),
                    "feature_rank": 20 + 60 * step / steps,
                },
            }
        )
    return lines


def result_lines(
    evaluation: str = "e1", rows: dict[str, tuple[float, ...]] | None = None, **verdict: Any
) -> list[dict[str, Any]]:
    """Scores of every row at every number of labels, and the verdict."""
    draw = random.Random(1)
    lines: list[dict[str, Any]] = []
    for method, values in (rows or ROWS).items():
        for labels, value in zip(LABELS, values, strict=False):
            spread = 0.035 / (1 + math.log10(labels)) * (0.6 + 0.5 * draw.random())
            lines.append(
                {
                    "kind": "score",
                    "evaluation": evaluation,
                    "method": method,
                    "data": "cifar10",
                    "metric": "accuracy",
                    "labels_per_class": labels,
                    "value": value,
                    "spread": spread,
                    "seeds": [0, 1, 2, 3, 4],
                    "values": [value] * 5,
                    "budget": {"steps": 120, "seconds": 14.2},
                    "commit": "a664bf5",
                    "command": "",
                    "note": "tested on 2,000 items" if method in ("fine-tuned", "from scratch") else "",
                }
            )
    errors = [
        {
            "name": f"test/cat/{i:04d}.jpg",
            "true": "cat",
            "predicted": ("dog", "frog", "ship")[i % 3],
            "probability": 0.99 - 0.01 * i,
        }
        for i in range(12)
    ]
    lines.append(
        {
            "kind": "verdict",
            "evaluation": evaluation,
            "sentence": SENTENCE,
            "notes": [
                "Fine-tuned and from-scratch rows were tested on a seeded subset of 2,000 of the 10,000 test items."
            ],
            "left_out": ["fine-tuned at all labels (no time left)"],
            "seconds": 432.0,
            "data": "cifar10",
            "labels_per_class": list(LABELS),
            "errors": errors,
            "errors_of": "fine-tuned",
            "classes": ["cat", "dog", "frog"],
            "confusion": [[80, 17, 3], [12, 87, 1], [4, 5, 91]],
            "command": "withheld evaluate runs/mae --data photos/cifar10.tar.gz --labels-per-class 1,10,100",
            **verdict,
        }
    )
    return lines


def sweep_json() -> dict[str, Any]:
    """A sweep of the mask ratio at two numbers of labels."""
    scores = []
    for labels, base in ((10, 0.36), (100, 0.49)):
        for value in (0.15, 0.4, 0.6, 0.75, 0.9):
            scores.append(
                {"value": value, "mean": base - 0.35 * (value - 0.66) ** 2, "spread": 0.011, "labels_per_class": labels}
            )
    return {
        "parameter": "ratio",
        "values": [0.15, 0.4, 0.6, 0.75, 0.9],
        "metric": "accuracy, linear probe",
        "scores": scores,
    }


def write_pictures(folder: Path) -> list[dict[str, Any]]:
    """Colored PNGs for every section, and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = [
        *[("samples", "", 6, []) for _ in range(4)],
        *[("split", f"cat/{i}.jpg", 4, ["t", "x", "y", "prediction"]) for i in range(4)],
        *[("neighbors", f"dog/{i}.jpg", 6, ["query", "nearest", "2nd", "3rd", "4th", "5th"]) for i in range(4)],
        *[("patches", f"frog/{i}.jpg", 2, ["item", "features"]) for i in range(6)],
        ("map", "", 8, []),
        *[("errors", f"test/cat/{i:04d}.jpg", 1, []) for i in range(6)],
    ]
    index = []
    for at, (section, title, tiles, columns) in enumerate(plan):
        rows = np.linspace(0, 255, 32, dtype=np.uint8)[:, None]
        across = np.linspace(0, 255, 32 * tiles, dtype=np.uint8)[None, :]
        pixels = np.stack([rows + 0 * across, 0 * rows + across, np.full_like(rows + across, 40 * at % 256)], axis=-1)
        if tiles > 1:  # as large as real ones: noise cannot be compressed
            pixels ^= np.random.default_rng(at).integers(0, 64, pixels.shape, dtype=np.uint8)
        name = f"{section}-{at:02d}.png"
        Image.fromarray(pixels).save(folder / name)
        data: dict[str, Any] = {"columns": columns} if columns else {}
        if section == "errors":
            data = {"name": title, "true": "cat", "predicted": "dog", "probability": 0.97}
        index.append({"file": name, "section": section, "title": title, "caption": f"About {section}.", "data": data})
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return index


def full_run(folder: Path, sweep: bool = True, pictures: bool = True, every: int = 10) -> Path:
    """A run that was pretrained, drawn and evaluated, with a few bad files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run_json(), indent=2), encoding="utf-8")
    write_lines(folder / "log.jsonl", log_lines(every=every))
    write_lines(folder / "results.jsonl", result_lines())
    reasons = ("cut off: 1,204 bytes are missing", "not an image", "not an image", "0 bytes")
    write_lines(
        folder / "skipped.jsonl", [{"file": f"train/frog/bad-{i}.jpg", "reason": r} for i, r in enumerate(reasons)]
    )
    (folder / "status.json").write_text(json.dumps({"state": "done", "step": 1800, "resumable": False, "reason": ""}))
    if pictures:
        write_pictures(folder / "pictures")
    if sweep:
        (folder / "sweep.json").write_text(json.dumps(sweep_json()), encoding="utf-8")
    return folder


def poisoned(folder: Path, payload: str) -> Path:
    """The full run with the payload in every string a stranger may choose, keys of mappings too."""
    full_run(folder)
    for name in ("run.json", "sweep.json", "status.json"):
        path = folder / name
        path.write_text(json.dumps(_replace(json.loads(path.read_text()), payload)))
    for name in ("log.jsonl", "results.jsonl", "skipped.jsonl"):
        path = folder / name
        lines = [_replace(json.loads(line), payload) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    index = folder / "pictures" / "index.json"
    index.write_text(json.dumps(_replace(json.loads(index.read_text()), payload)))
    return folder


def _replace(value: Any, payload: str, key: str = "") -> Any:
    if isinstance(value, dict):
        changed = {name: _replace(part, payload, name) for name, part in value.items()}
        if key in ("settings", "versions", "config", "recipe", "vitals"):
            changed[payload] = 1.5
        return changed
    if isinstance(value, list):
        return [_replace(part, payload, key) for part in value]
    if isinstance(value, str) and key not in ("kind", "evaluation", "section", "file", "state", "outcome", "metric"):
        return f"{value} {payload}" if key == "method" and value in ROWS else payload
    return value
