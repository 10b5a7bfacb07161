"""How clips go on: a run of next_frame fed with its own frames, far beyond what it was trained to tell.

Shapes: T given frames, U told ones, K of them with a true one, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from withheld.data.broken import lost, notes_of
from withheld.data.clip import ASSUMED_RATE
from withheld.data.clips import decoded_clips
from withheld.data.moving import HELD, is_moving, open_moving
from withheld.data.video import open_videos, told_of_frames
from withheld.errors import InputError
from withheld.evaluate.canvas import INK, SOFT, Tile, blank, enlargement, fitted, strip
from withheld.evaluate.features import Listen, preparing, printable_name, silent
from withheld.evaluate.fonts import font
from withheld.evaluate.frame_error import frame_errors, in_pixels
from withheld.evaluate.frame_pictures import SIDE, to_tile
from withheld.evaluate.held_clips import named_run
from withheld.evaluate.tracking.track import FILMS, write_video
from withheld.networks.next_frame import FramePredictor
from withheld.run import Run, pick_device
from withheld.wording import plural

SPARE, FASTEST, LINE, GAP = 3, 10.0, 20, 8
"""Clips looked at for each that is wanted, frames a second that are shown at most, pixels of a line and of a gap."""


@dataclass(frozen=True)
class RolledOut:
    """A clip, and how it was told to go on; all of it within 0..1.

    Attributes:
        name: of the clip. given: (T, C, H, W). told: (U, C, H, W). true: (K, C, H, W), K <= U: what came, as far as that is known.
        rate: frames a second.
    """

    name: str
    given: Tensor
    told: Tensor
    true: Tensor
    rate: float

    def errors(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """(K,) squared error of every frame told, and of copies of the last one given, summed over the pixels of a frame."""
        known = len(self.true)
        if not known:
            return np.zeros(0), np.zeros(0)
        nowhere = torch.zeros_like(self.true[None, :, 0], dtype=torch.bool)
        copies = self.given[-1:].expand_as(self.true)
        return tuple(  # type: ignore[return-value]
            frame_errors(frames[None, :known], self.true[None], nowhere)["by frame"][0].numpy()
            for frames in (self.told, copies)
        )


@torch.no_grad()
def roll_out(
    run: str | Path | Run, data: Any, frames: int = 30, *, clips: int = 1, device: str = "auto", listen: Listen = silent
) -> list[RolledOut]:
    """Tells how clips go on after their first frames, as many as the run was trained to be given.

    Args:
        run: of next_frame. data: a clip, a folder of clips, or `moving:PATH`, whose held-out clips are taken.
        frames: U, any number. clips: how many of the data, the first that are long enough.

    Raises:
        InputError: a run of another method; no clip is long enough; the data.
    """
    run = named_run(run)
    objective = run.objective()
    network = objective.network
    if not isinstance(network, FramePredictor):
        raise InputError(
            f"{run.folder}: a run of {run.settings['title']} tells no frames to come; one of next_frame does"
        )
    if frames < 1 or clips < 1:
        raise InputError(f"frames={frames}, clips={clips}: both are 1 or more")
    place = torch.device(pick_device(device))
    network.to(place).eval()
    given = network.trunk.frames - network.told
    mean, std = run.settings["mean"], run.settings["std"]
    found = []
    for name, pixels, rate in _clips(run.settings["data"], data, given, frames, clips, listen):
        t = torch.from_numpy(pixels).to(place).float() / 255
        shape = (1, len(mean), 1, 1)
        x = (t[:given] - t.new_tensor(mean).view(shape)) / t.new_tensor(std).view(shape)
        told = in_pixels(network(x[None], frames), mean, std)[0].clamp(0, 1)
        found.append(RolledOut(name, t[:given].cpu(), told.cpu(), t[given:].cpu(), rate))
    return found


def _clips(
    facts: dict[str, Any], data: Any, given: int, told: int, count: int, listen: Listen
) -> Iterator[tuple[str, NDArray[np.uint8], float]]:
    """Name, at most `given + told` frames (T, 3, S, S), and the rate of clips that have more than is given."""
    size, rate, wanted = facts["size"], float(facts["rate"]), given + told
    if is_moving(data):
        made = open_moving(data, size, wanted, rate)
        for number in range(count):
            frames = made.batch(np.array([number]), HELD)[0].contiguous().numpy()
            yield f"{made.kind}:{number}", frames, ASSUMED_RATE / made.stride
        return
    source = open_videos(data)
    if note := told_of_frames(source):
        listen({"kind": "note", "text": note})
    source = source.subset(np.arange(min(len(source), SPARE * count)))
    decoded, kept, skipped = decoded_clips(source, size, preparing(listen))
    for note in notes_of(lost(skipped), plural(len(source), "clip")):
        listen({"kind": "note", "text": note})
    short, yielded = "", 0
    for clip, at in zip(decoded, kept, strict=True):
        stride = max(1.0, clip.rate / rate) if rate > 0 else 1.0
        numbers = np.floor(np.arange(wanted) * stride + 1e-6).astype(np.int64)
        numbers = numbers[numbers < len(clip.frames)]
        name = printable_name(source.names[int(at)])
        if len(numbers) < given:
            every = f" at {rate:g} a second" if rate > 0 else ""
            short = (
                short
                or f"{name} has {plural(len(numbers), 'frame')}{every}, and this run is given {given} before it tells any"
            )
        elif yielded < count:
            yielded += 1
            yield name, np.ascontiguousarray(clip.frames[numbers]), clip.rate / stride
    if not yielded:
        raise InputError(f"{short or f'{source.location}: none of its clips can be read'}: give a longer clip")
    if yielded < count:
        listen({"kind": "note", "text": f"{yielded} of {count} clips: {short or 'there are no more'}"})


def write_film(found: list[RolledOut], out: str | Path) -> Path:
    """Writes moving pictures of clips under each other: what came, what was told and the error, with the error of every frame.

    Args:
        out: a .gif, .mp4 or .mkv.

    Raises:
        InputError: another ending. CannotWrite: for `out`.
    """
    out = check_film(out)
    pictures = (np.asarray(picture.convert("RGB")) for picture in film(found))
    write_video(out, pictures, min(FASTEST, found[0].rate))
    return out


def check_film(out: str | Path) -> Path:
    """The file, where it can hold moving pictures.

    Raises:
        InputError: another ending.
    """
    if Path(out).suffix.lower() not in FILMS:
        raise InputError(f"-o {out}: moving pictures are written to a file that ends in {', '.join(FILMS)}")
    return Path(out)


def film(found: list[RolledOut]) -> Iterator[Tile]:
    """Every picture of the film: while frames are given, they stand in both places."""
    errors = [one.errors() for one in found]
    for at in range(len(found[0].given) + len(found[0].told)):
        rows = [_row(one, at, *error) for one, error in zip(found, errors, strict=True)]
        out = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
        top = 0
        for row in rows:
            out.paste(row, (0, top))
            top += row.height
        yield out


def _row(one: RolledOut, at: int, ours: NDArray[np.floating], copied: NDArray[np.floating]) -> Tile:
    """One clip at one moment, with two lines of words over it."""
    T, u = len(one.given), at - len(one.given)
    times = enlargement(one.told.shape[-1], SIDE)
    width, height = times * one.told.shape[-1], times * one.told.shape[-2]
    if u < 0:
        said, parts = f"given {at + 1} of {T}", [to_tile(one.given[at], times)] * 2 + [blank(width, height)]
    elif u < len(one.true):
        said = f"told {u + 1}: MSE {ours[u]:.0f}, copying {copied[u]:.0f}"
        error = (one.told[u] - one.true[u]).abs()
        parts = [to_tile(frame, times) for frame in (one.true[u], one.told[u], error)]
    else:
        said, parts = f"told {u + 1}", [blank(width, height), to_tile(one.told[u], times), blank(width, height)]
    row = strip(parts, GAP)
    out = Image.new("RGB", (row.width + 2 * GAP, row.height + 3 * LINE + GAP), "white")
    draw = ImageDraw.Draw(out)
    for line, (words, color) in enumerate(((one.name, SOFT), (said, INK))):
        text = fitted(words, row.width, 12)
        draw.text((GAP, GAP + LINE * line + LINE // 2), text, fill=color, font=font(12), anchor="lm")
    for column, words in enumerate(("came", "told", "error")):
        middle = GAP + column * (width + GAP) + width / 2
        draw.text((middle, GAP + 2.5 * LINE), words, fill=SOFT, font=font(12), anchor="mm")
    out.paste(row, (GAP, GAP + 3 * LINE), row)
    return out
