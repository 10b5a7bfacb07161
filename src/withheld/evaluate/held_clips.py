"""Clips that a run has not learned from: those it held out, or others; and what is measured on them, clip by clip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.asked import Asked
from withheld.data.clips import PreparedClips
from withheld.data.duplicates import near_duplicates
from withheld.data.few import interval
from withheld.data.moving import is_moving
from withheld.data.sample import spread
from withheld.data.stream_clips import StreamedFrames
from withheld.errors import InputError
from withheld.evaluate.compare import unanimous
from withheld.evaluate.features import Listen
from withheld.modalities.video import Videos
from withheld.objective import Objective
from withheld.run import Run
from withheld.types import Recipe
from withheld.wording import plural

AT_ONCE, MOST = 16, 300
"""Windows that pass through the network together, and windows that are measured at most."""


@dataclass
class HeldClips:
    """Windows of clips that were never learned from.

    Attributes:
        objective: the run's, in `eval`. items: as the loop asks for them. chosen: (W,) which of them are measured.
        owners: (W,) the clip of each. said: what they are, in words. mean, std: how they are normalized.
        notes: what there is to know.
    """

    objective: Objective
    items: Any
    chosen: NDArray[np.int64]
    owners: NDArray[np.int64]
    said: str
    mean: list[float]
    std: list[float]
    device: torch.device
    notes: list[str] = field(default_factory=list)

    def batches(self) -> Iterator[tuple[slice, Tensor]]:
        """A few windows at a time, and which rows they are."""
        for first in range(0, len(self.chosen), AT_ONCE):
            rows = slice(first, min(first + AT_ONCE, len(self.chosen)))
            yield rows, self.items.batch(self.chosen[rows], self.device)

    def by_clip(self, values_W: NDArray[np.floating]) -> NDArray[np.floating]:
        """(N,): the mean over the windows of every clip, of those that are numbers."""
        known = np.isfinite(values_W)
        _, clip = np.unique(self.owners, return_inverse=True)
        sums = np.bincount(clip[known], weights=values_W[known], minlength=clip.max() + 1)
        counts = np.bincount(clip[known], minlength=clip.max() + 1)
        return sums[counts > 0] / counts[counts > 0]

    def mean_of(self, values_W: NDArray[np.floating]) -> tuple[float, float]:
        """The mean over clips, and half its 95 % interval."""
        each = self.by_clip(np.asarray(values_W, np.float64))
        return (float(each.mean()), interval(each.tolist())) if len(each) else (math.nan, math.nan)

    def share_of(self, values_W: NDArray[np.floating]) -> tuple[float, float]:
        """As `mean_of`, of shares or a difference of two, about which clips that all agree leave something open too."""
        mean, half = self.mean_of(values_W)
        return mean, half or unanimous(self.clips)

    @property
    def clips(self) -> int:
        """How many clips there are."""
        return len(np.unique(self.owners))


def held_clips(run: Run, data: Any, device: str, listen: Listen, windows: int | None = None) -> HeldClips:
    """Opens what a run held out, or other clips.

    Args:
        run: of a method of clips. data: clips without labels; None takes those that the run held out.
        windows: at most so many are measured, spread evenly over the clips; 300 where None.

    Raises:
        InputError: the run is of another kind or held nothing out; the data.
    """
    if run.settings["modality"] != "video":
        raise InputError(f"{run.folder}: a run of {run.settings['title']} learned from no clips")
    objective = run.objective().to(torch.device(device)).eval()
    settings = run.settings["data"]
    asked = Asked.from_json(run.settings["given"])
    fed = {name: settings[name] for name in ("frames", "rate", "motion")}
    asked = replace(asked, size=settings["size"], settings={**asked.settings, **fed})
    location = run.settings["data"]["location"] if data is None else data
    modality = Videos(location, asked, torch.device(device), lambda kind, **event: listen({"kind": kind, **event}))
    modality.part = "train" if data is None else "test"
    modality.open(run.settings["method"])
    modality.mean, modality.std = list(run.settings["mean"]), list(run.settings["std"])
    modality.feed(Recipe())
    own = modality.fingerprint == run.settings["data"]["fingerprint"]
    if own and not modality.held_out:
        raise InputError(
            f"{run.folder}: it learned from all clips of {location}, so few ({settings['clips']}) that none was held out; "
            "name others: --clips OTHER/, or hold some out when you pretrain: --set held_out=0.3 (of ten clips or more)"
        )
    items = modality.trial if own else modality.every
    chosen = spread(len(items), windows or MOST)
    owners = items.owners(chosen)
    told = (" that was held out" if len(chosen) == 1 else " that were held out") if own else ""
    said = f"{plural(len(chosen), 'window')} of {plural(len(np.unique(owners)), 'clip')} of {location}{told}"
    notes = [] if own else _seen_note(modality, np.unique(owners), run, asked)
    return HeldClips(objective, items, chosen, owners, said, modality.mean, modality.std, torch.device(device), notes)


def _seen_note(others: Videos, measured: NDArray[np.int64], run: Run, asked: Asked) -> list[str]:
    """Says how many of other clips are nearly those that a run learned from, where these are still there."""
    location = run.settings["data"]["location"]
    if others.made is not None or is_moving(location) or not Path(location).expanduser().exists():
        return []
    learned = Videos(location, asked, others.device, lambda kind, **event: None)
    learned.open(run.settings["method"])
    learned.feed(Recipe())
    if any(isinstance(each.clips.images, StreamedFrames) for each in (others, learned)):
        return []
    known = np.unique(learned.items.windows.clip)
    pairs = _copies(others.clips, measured, learned.clips, known)
    if not pairs:
        return []
    twice = len({one for one, _ in pairs})
    names = others.clips.names[measured[pairs[0][0]]], learned.clips.names[known[pairs[0][1]]]
    are = "is nearly one" if twice == 1 else "are nearly ones"
    return [
        f"{twice} of {plural(len(measured), 'clip')} {are} that the run learned from (such as {names[0]!r} and {names[1]!r}): "
        "what is measured on them says nothing of unseen clips"
    ]


def _copies(
    one: PreparedClips, some: NDArray[np.int64], other: PreparedClips, known: NDArray[np.int64]
) -> list[tuple[int, int]]:
    """Pairs of clips whose middle frames agree, and what has moved before them: of a fixed camera frames alone are alike."""
    found = [
        near_duplicates(a, b) for a, b in zip(_looks(one, some), _looks(other, known), strict=True)
    ]  # of frames, and of differences
    return sorted(set(map(tuple, found[0].tolist())) & set(map(tuple, found[1].tolist())))


def _looks(clips: PreparedClips, some: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(N, 3, S, S) the middle frames of clips, and their differences from those of the first quarter."""
    begin, end = clips.starts[some], clips.starts[some + 1]
    middle, quarter = (np.asarray(clips.images[begin + (end - begin) * k // 4]) for k in (2, 1))
    return middle, ((middle.astype(np.int16) - quarter) // 2 + 128).astype(np.uint8)


def named_run(run: str | Path | Run) -> Run:
    """A run, opened where a folder was given."""
    from withheld.run import open_run

    return run if isinstance(run, Run) else open_run(run)
