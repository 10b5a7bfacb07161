"""Clips that a run has not learned from: those it held out, or others; and what is measured on them, clip by clip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.data.few import interval
from withheld.data.sample import spread
from withheld.errors import InputError
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
    """

    objective: Objective
    items: Any
    chosen: NDArray[np.int64]
    owners: NDArray[np.int64]
    said: str
    mean: list[float]
    std: list[float]
    device: torch.device

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
    given = {**run.settings["given"], "size": run.settings["data"]["size"]}
    settings = run.settings["data"]
    given["settings"] = {**given["settings"], **{name: settings[name] for name in ("frames", "rate", "motion")}}
    location = run.settings["data"]["location"] if data is None else data
    modality = Videos(location, given, torch.device(device), lambda kind, **event: listen({"kind": kind, **event}))
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
    return HeldClips(objective, items, chosen, owners, said, modality.mean, modality.std, torch.device(device))


def named_run(run: str | Path | Run) -> Run:
    """A run, opened where a folder was given."""
    from withheld.run import open_run

    return run if isinstance(run, Run) else open_run(run)
