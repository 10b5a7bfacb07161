"""Encoders that others have published, as rivals: opened at a size the clock allows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from withheld.errors import InputError
from withheld.evaluate.compare import PUBLIC, Row
from withheld.evaluate.features import collecting
from withheld.evaluate.judged import judged
from withheld.evaluate.labelled import Labelled
from withheld.evaluate.measure import Measurement, everything
from withheld.image_encoder import ImageEncoder
from withheld.run import load_encoder
from withheld.wording import duration

SIZE = 224
SHARE = 0.3
"""Of the time, at most, for each public encoder."""


def rivals(against: Sequence[str], default: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The named encoders as (name, where to open it), by default a small one that lies in the local cache already."""
    if against:
        return [(str(name), str(name)) for name in against], []
    where = _cached(default)
    if where is None:
        return [], [f"a public encoder: none lies in the local cache; add one with --against {default}"]
    return [(default, where)], []


def measure_public(measurement: Measurement, name: str, where: str, device: Any) -> None:
    """The row of one public encoder: a linear probe on its features, of images decoded at its own size."""
    encoder = open_rival(where).to(device).eval()
    measurement.say(f"features of {name}")
    kind = judged(encoder)
    if type(kind) is not type(measurement.judged):
        measurement.left_out.append(f"{name}: it is an encoder of {encoder.modality}, and the items are not")
        return
    quiet = collecting([], measurement.listen)  # of what cannot be read it was said when the subject's were decoded
    items, kept = kind.decode(measurement.labelled.source, quiet)
    row_of = {int(position): row for row, position in enumerate(kept)}
    inner = Measurement(
        measurement.labelled, kind, items, row_of, measurement.minutes, measurement.started, measurement.listen,
        measurement.done,
    )  # fmt: skip
    labelled = _affordable(inner, encoder, name)
    if labelled is None:
        measurement.left_out += inner.left_out
        return
    table = inner.table(encoder, everything(labelled))
    row = Row(f"{name} (linear probe)", PUBLIC, note=_size_of(encoder) + "".join(inner.notes))
    measurement.rows.append(inner.frozen(row, lambda seed: table, inner.probe, labelled))


def _size_of(encoder: Any) -> str:
    return f"at {encoder.size} pixels" if isinstance(encoder, ImageEncoder) else f"{encoder.length} tokens at once"


def open_rival(where: str) -> Any:
    """An encoder of this library, or a transformers one at 224 pixels if it is larger.

    Raises:
        InputError: where there is none.
    """
    from withheld.networks.open import encoder_folder, open_trunk, read_card

    encoder, folder = load_encoder(where), encoder_folder(where)
    if not isinstance(encoder, ImageEncoder):
        return encoder
    if read_card(folder) or encoder.size <= SIZE or not encoder.trunk.patch:
        return encoder
    size = SIZE // encoder.trunk.patch * encoder.trunk.patch
    trunk, _ = open_trunk(folder or where, size=size, channels=3)
    return ImageEncoder(trunk, encoder.mean, encoder.std, name=encoder.name)


def _affordable(inner: Measurement, encoder: Any, name: str) -> Labelled | None:
    """All items, or the common test items only, or none, as the clock allows."""
    sample = np.array(inner.images[: min(16, len(inner.images))])
    encoder.transform(sample[:1])
    begun = time.monotonic()
    encoder.transform(sample)
    item = (time.monotonic() - begun) / len(sample)
    there_is = min(SHARE * inner.budget, inner.budget - inner.elapsed)
    for labelled, note in ((inner.labelled, ""), (inner.labelled.limited(), ", on the common test items")):
        need = item * len(everything(labelled))
        if need <= there_is:
            inner.notes += [note] if note else []
            return labelled
    inner.left_out.append(
        f"{name}, for time: its features alone need {duration(need)}, there were {duration(max(0.0, there_is))} "
        "left (give more --minutes)"
    )
    return None


def _cached(name: str) -> str | None:
    """The local snapshot of a hub model, without asking the network; None where it is not whole."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(name, file) for file in ("config.json", "model.safetensors")]
    if not all(isinstance(path, str) for path in found):
        return None
    return str(Path(str(found[0])).parent)


def check_rivals(against: Sequence[str]) -> None:
    """Opens every named encoder once, so that a mistyped name is told before the work and not after it.

    Raises:
        InputError: for a name that is none.
    """
    for name in against:
        if not str(name).strip():
            raise InputError("--against: the name is empty; give a run, an encoder folder or a transformers id")
        load_encoder(str(name))
