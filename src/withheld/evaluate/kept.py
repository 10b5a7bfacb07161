"""Features that were computed before: a second search in the same photographs does not compute them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from withheld.data import cache
from withheld.data.rows import Streamed
from withheld.encoder import Encoder
from withheld.errors import CannotWrite
from withheld.evaluate.features import Listen, features, silent

FIRST = 64
"""Items whose features are computed in any case."""
FEWEST = 4 * FIRST
AT_ONCE = 256


def kept_features(encoder: Any, items: Any, listen: Listen = silent) -> NDArray[np.float32]:
    """Pooled features (N, D) as of `features`, looked for in the cache first and put there.

    What they are kept under is a hash of the weights, of every item, and of what the encoder tells of the first ones now: whatever
    changes how items are fed, in this version or the next, changes that. A cache that cannot be written costs the time only.

    Args:
        encoder: an `Encoder`. items: (N, C, H, W) uint8, texts or clips; few ones, and those that are decoded whenever they are
            asked for, are not kept. listen: as for `features`.
    """
    name = _name(encoder, items)
    if name is None:
        return features(encoder, items, listen=listen)
    try:
        folder = cache.entries_folder() / name
    except CannotWrite:
        return features(encoder, items, listen=listen)
    found = _read(folder)
    if found is None:
        found = features(encoder, items, listen=listen)
        _write(name, found)
    else:
        cache.touch(folder)
        listen({"kind": "features", "done": len(found), "total": len(found)})
    return found


def _name(encoder: Any, items: Any) -> str | None:
    """The folder of the cache; None where nothing is to be kept."""
    if not isinstance(encoder, Encoder) or len(items) < FEWEST or isinstance(getattr(items, "items", items), Streamed):
        return None
    total = hashlib.sha256(type(encoder).__name__.encode())
    for name, value in encoder.state_dict().items():
        total.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    for first in range(0, len(items), AT_ONCE):
        some = items[first : first + AT_ONCE]
        for part in _parts(some):
            if part is None:
                return None
            total.update(len(part).to_bytes(8, "little") + part)
    some = np.array(items[:FIRST])  # a copy: what is mapped cannot be written to, and torch warns
    total.update(np.ascontiguousarray(encoder.transform(some), np.float32).tobytes())
    return f"features-{total.hexdigest()[:32]}"


def _parts(some: Any) -> Iterator[bytes | None]:
    """What a few items are made of; None where that is not known."""
    if isinstance(some, np.ndarray) and some.dtype == np.uint8:
        yield f"{some.shape[1:]}".encode() + some.tobytes()
        return
    for item in some:
        frames = getattr(item, "frames", None)
        if isinstance(item, str):
            yield item.encode("utf-8", "surrogatepass")
        elif isinstance(frames, np.ndarray):
            yield f"{frames.shape}{getattr(item, 'rate', '')}".encode() + frames.tobytes()
        else:
            yield None


def _read(folder: Path) -> NDArray[np.float32] | None:
    """What is kept there and whole."""
    try:
        facts = json.loads((folder / cache.DONE).read_text(encoding="utf-8"))
        values = np.load(folder / "features.npy", allow_pickle=False)
        same = facts["sha256"] == hashlib.sha256(values.tobytes()).hexdigest()
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    return values if same else None


def _write(name: str, values: NDArray[np.float32]) -> None:
    try:
        if values.nbytes > cache.allowance():
            return
        with cache.locked(name) as entry, cache.filling(entry) as folder:
            np.save(folder / "features.npy", values, allow_pickle=False)
            facts = {"sha256": hashlib.sha256(values.tobytes()).hexdigest()}
            (folder / cache.DONE).write_text(json.dumps(facts), encoding="utf-8")
    except (OSError, CannotWrite):
        return
