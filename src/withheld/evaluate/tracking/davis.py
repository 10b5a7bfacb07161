"""Does it follow things? Masks of first frames carried through sequences, beside copying them and beside optical flow.

Shapes: T frames, H W pixels, K objects.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from withheld.data.davis import Sequence, open_davis
from withheld.data.few import interval
from withheld.errors import InputError
from withheld.evaluate.features import Listen, as_encoder, silent
from withheld.evaluate.measured import Measured
from withheld.evaluate.results import add_results
from withheld.evaluate.tracking.features import at_grid, places
from withheld.evaluate.tracking.measures import Followed, followed
from withheld.evaluate.tracking.propagate import Pointer, full_size, on_grid, propagate
from withheld.run import pick_device
from withheld.wording import plural

IDENTITY, FLOW, UNTRAINED = "copy the first mask", "optical flow (Farneback)", "the same encoder untrained"
SEEDS = 3
Ids = NDArray[np.integer]


@dataclass
class Tracked:
    """What following masks through some sequences gave.

    Attributes:
        rows: name -> sequence -> mean measures over its objects (and seeds).
        sentence: the closing one. notes: what was left out, and why.
        masks: sequence -> (T, H, W) of the pretrained encoder, for pictures.
    """

    rows: dict[str, dict[str, Followed]]
    sentence: str
    notes: list[str]
    masks: dict[str, Ids] = field(default_factory=dict)

    def mean(self, row: str, what: str = "j_and_f") -> float:
        """The mean over sequences, each that of its objects."""
        return float(np.mean([getattr(each, what) for each in self.rows[row].values()]))


def evaluate_davis(
    subject: Any, folder: str | Path, *, against: tuple[str, ...] = (), pointer: Pointer = Pointer(),
    device: str = "auto", results: Path | None = None, command: str = "", listen: Listen = silent,
) -> Tracked:  # fmt: skip
    """Follows the masks of first frames (J, F and J&F of the DAVIS benchmark) by the likeness of an encoder's features.

    Args:
        subject: a run, an encoder folder or an `Encoder`, of images or of clips.
        folder: in the layout of DAVIS. against: other encoders.
        results: a results.jsonl to append a line for every row to.

    Raises:
        InputError: for the subject or the folder.
    """
    place = pick_device(device)
    encoder = as_encoder(subject, place)
    if encoder.modality not in ("image", "video"):
        raise InputError(
            f"{subject}: an encoder of {encoder.modality}s; masks are followed with one of images or clips"
        )
    sequences, notes = open_davis(folder)
    named = {"pretrained": encoder, **{name: as_encoder(name, place) for name in against}}
    rows: dict[str, dict[str, Followed]] = {}
    masks: dict[str, Ids] = {}
    fed = {name: at_grid(each) for name, each in named.items()}
    fresh = [at_grid(encoder.fresh(seed)) for seed in range(SEEDS)]
    for number, sequence in enumerate(sequences):
        listen({"kind": "prepare", "done": number, "total": len(sequences)})
        try:
            true, _ = sequence.ids()
        except InputError as error:
            notes.append(f"{sequence.name} was left out: {error}")
            continue
        if int((true >= 0).all(axis=(1, 2)).sum()) < 2:
            notes.append(f"{sequence.name} was left out: no frame but the first has a mask to compare with")
            continue
        images = Squashed(sequence)
        rows.setdefault(IDENTITY, {})[sequence.name] = mean_of(np.repeat(true[:1], len(true), axis=0), true)
        flowed = by_flow(images, true[0])
        if flowed is not None:
            rows.setdefault(FLOW, {})[sequence.name] = mean_of(flowed, true)
        for name, (copy, side) in fed.items():
            found = follow(copy, images.at(side), true[0], pointer)
            rows.setdefault(name, {})[sequence.name] = mean_of(found, true)
            if name == "pretrained":
                masks[sequence.name] = found
        several = [mean_of(follow(copy, images.at(side), true[0], pointer), true) for copy, side in fresh]
        rows.setdefault(UNTRAINED, {})[sequence.name] = averaged(several)
    listen({"kind": "prepare", "done": len(sequences), "total": len(sequences)})
    if not rows:
        raise InputError(f"{folder}: no sequence can be followed. {'; '.join(notes[:3])}")
    if FLOW not in rows:
        notes.append(f'{FLOW}: it needs opencv, pip install "withheld[detection]"')
    tracked = Tracked(rows, sentence(rows), notes, masks)
    if results is not None:
        _write(tracked, results, str(folder), command)
    return tracked


class Squashed:
    """Frames of a sequence as squares, read once for every side."""

    def __init__(self, sequence: Sequence) -> None:
        self.sequence, self._read = sequence, {}  # type: ignore[var-annotated]

    def at(self, side: int) -> NDArray[np.uint8]:
        """(T, side, side, 3)."""
        if side not in self._read:
            self._read[side] = self.sequence.images(side)
        return self._read[side]


def follow(
    encoder: Any, frames_TSS3: NDArray[np.uint8], first: Ids, pointer: Pointer = Pointer(), listen: Listen = silent
) -> Ids:
    """(T, H, W) numbers of objects, in as few bytes as they need.

    Args:
        encoder: as `at_grid` gives it. frames_TSS3: of the side it gives.
        first: (H, W) of the first frame. listen: is told {"kind": "features" or "follow", "done", "total"}.
    """
    found = np.empty((len(frames_TSS3), *first.shape), np.min_scalar_type(int(first.max())))
    for at, ids in enumerate(in_full(followed_on_grid(encoder, frames_TSS3, first, pointer, listen), first)):
        found[at] = ids
    return found


def followed_on_grid(
    encoder: Any, frames_TSS3: NDArray[np.uint8], first: Ids, pointer: Pointer = Pointer(), listen: Listen = silent
) -> list[torch.Tensor]:
    """Soft masks (K, h, w) of every frame, on the grid of the features; arguments as of `follow`."""
    features = places(encoder, frames_TSS3, listen)
    h, w = features[0].shape[1:]
    start = on_grid(torch.from_numpy(first), int(first.max()), h, w).to(features[0].device)
    return propagate(features, start, pointer, listen)


def in_full(soft: list[torch.Tensor], first: Ids) -> Iterator[Ids]:
    """(H, W) numbers of objects, frame by frame: those of a long clip together would fill the memory."""
    yield first
    for each in soft[1:]:
        yield full_size(each, *first.shape).cpu().numpy()


def by_flow(images: Squashed, first: Ids, side: int = 256) -> Ids | None:
    """(T, H, W): masks carried along by optical flow between neighbors (Farneback 2003); None without opencv."""
    try:
        import cv2
    except ImportError:
        return None
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images.at(side)]
    soft = on_grid(torch.from_numpy(first), int(first.max()), side, side)
    axis = torch.linspace(-1 + 1 / side, 1 - 1 / side, side)
    here = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
    found = [first]
    for before, now in itertools.pairwise(grey):
        flow: Any = cv2.calcOpticalFlowFarneback(now, before, None, 0.5, 4, 21, 3, 7, 1.5, 0)  # type: ignore[call-overload]
        came = (here + torch.from_numpy(flow) * (2 / side)).unsqueeze(0)
        soft = F.grid_sample(soft[None], came, mode="bilinear", padding_mode="border", align_corners=False)[0]
        found.append(full_size(soft, *first.shape).numpy())
    return np.stack(found)


def mean_of(found: Ids, true: Ids) -> Followed:
    """Mean measures over the objects, in frames that have a mask."""
    known = (true >= 0).all(axis=(1, 2))
    return averaged([followed(found[known] == k, true[known] == k) for k in range(1, int(true[0].max()) + 1)])


def averaged(several: list[Followed]) -> Followed:
    """The mean of every measure."""
    return Followed(*(float(np.mean(column)) for column in zip(*map(dataclasses.astuple, several), strict=True)))


def gap(rows: dict[str, dict[str, Followed]], one: str, other: str) -> tuple[float, float]:
    """The mean difference of J&F over sequences, and half its 95 % interval (paired t)."""
    both = [rows[one][name].j_and_f - rows[other][name].j_and_f for name in rows[one]]
    return float(np.mean(both)), _half(both)


def _half(values: list[float]) -> float:
    """Half the 95 % interval; infinite where it is wider than J&F itself, as of two sequences that differ: that tells nothing."""
    half = interval(values, None)
    return half if half < 1 else math.inf


def sentence(rows: dict[str, dict[str, Followed]]) -> str:
    """What there is to say."""
    count = len(rows["pretrained"])
    mean = float(np.mean([each.j_and_f for each in rows["pretrained"].values()]))
    parts = []
    for other in (IDENTITY, UNTRAINED, FLOW):
        if other in rows:
            worth, half = gap(rows, "pretrained", other)
            told = f" (95 % CI {100 * (worth - half):z.1f} to {100 * (worth + half):z.1f})" if np.isfinite(half) else ""
            name = {IDENTITY: "copying the first mask", UNTRAINED: UNTRAINED, FLOW: "optical flow"}[other]
            parts.append(f"{100 * worth:+z.1f} points{told} over {name}")
    worths = [gap(rows, "pretrained", other) for other in (IDENTITY, UNTRAINED)]
    if all(worth - half > 0 for worth, half in worths):
        start = "Pretraining helps to follow things"
    elif all(worth > 0 for worth, _ in worths):
        start = "Pretraining may help to follow things, so few sequences do not decide it"
    elif not all(np.isfinite(half) for _, half in worths):
        start = "So few sequences do not decide whether pretraining helps to follow things"
    else:
        start = "Pretraining does not help to follow things"
    return f"{start}: J&F {100 * mean:.1f} over {plural(count, 'sequence')}, {', '.join(parts)}."


HEADS = {
    "J&F": "j_and_f", "J": "j_mean", "J recall": "j_recall", "J decay": "j_decay", "F": "f_mean", "F recall": "f_recall",
    "F decay": "f_decay",
}  # fmt: skip


def table_of(tracked: Tracked) -> Measured:
    """The rows as they are printed: means over sequences in %, J&F with half its 95 % interval, and J&F of every sequence."""
    names = list(tracked.rows["pretrained"])
    rows, numbers = [], {}
    for row, of in tracked.rows.items():
        means = {head: tracked.mean(row, what) for head, what in HEADS.items()}
        half = _half([each.j_and_f for each in of.values()])
        first = f"{100 * means['J&F']:.1f}" + (f" ± {100 * half:.1f}" if np.isfinite(half) else "")
        others = [f"{100 * mean:.1f}" for head, mean in means.items() if head != "J&F"]
        rows.append([row, first, *others, *(f"{100 * of[name].j_and_f:.0f}" for name in names)])
        numbers[row] = means
    said = (
        "Measures as the DAVIS benchmark defines them, means over sequences of their objects (DAVIS 2017 counts all objects alike; "
        "2016 has one a sequence). ± is half the 95 % interval over sequences. Columns named as sequences: their J&F."
    )
    heads = [*HEADS, *names]
    return Measured("tracking", "Following masks, %", heads, rows, tracked.sentence, [said, *tracked.notes], numbers)


def _write(tracked: Tracked, results: Path, data: str, command: str) -> None:
    from withheld.provenance import commit_of_code, now

    table_of(tracked).add_to(results, data=data, command=command)
    lines = [
        {
            "kind": "tracking", "method": name, "data": data, "metric": "J&F", "value": tracked.mean(name),
            "by_sequence": {key: dataclasses.asdict(each) for key, each in of.items()}, "commit": commit_of_code(),
            "command": command, "time": now(),
        }
        for name, of in tracked.rows.items()
    ]  # fmt: skip
    closing = {"kind": "tracking verdict", "sentence": tracked.sentence, "notes": tracked.notes}
    add_results(results, *lines, closing)
