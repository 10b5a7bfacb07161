"""Following what a mask marks through any clip, drawn over it.

Shapes: T frames, H W pixels, S side in pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from withheld.data.clip import frames_of_file
from withheld.data.davis import read_mask
from withheld.data.decode import decode
from withheld.data.video import VIDEOS, Frames, open_videos
from withheld.errors import InputError
from withheld.evaluate.features import Listen, as_encoder, silent
from withheld.evaluate.tracking.davis import followed_on_grid, in_full
from withheld.evaluate.tracking.features import at_grid
from withheld.evaluate.tracking.propagate import Pointer
from withheld.learn.checkpoint import replacing, writing
from withheld.wording import plural

COLORS = np.array([(255, 77, 77), (64, 160, 255), (88, 214, 141), (255, 196, 61), (187, 107, 217)], np.float32)
OPACITY = 0.55
FILMS = (".mp4", ".mkv", ".gif")
LONGEST = 1500
"""Frames of a clip that are followed."""
USUAL_RATE = 25.0
"""Frames a second of clips that do not say."""


def track(
    subject: Any, clip: str | Path, mask: str | Path, out: str | Path, *, pointer: Pointer = Pointer(),
    device: str = "auto", listen: Listen = silent,
) -> Path:  # fmt: skip
    """Follows what `mask` marks in the first frame of a clip.

    Args:
        subject: a run, an encoder folder or an `Encoder`, of images or of clips.
        clip: a video file or a folder of frames. mask: a picture of the first frame's size, black where nothing is marked.
        out: a video (.mp4, .mkv, .gif) with the mask drawn over it, or a folder for one mask PNG a frame.

    Raises:
        InputError: for any of them, with the remedy. CannotWrite: for `out`.
    """
    out, first = Path(out), read_mask(Path(mask))
    if out.suffix and out.suffix.lower() not in FILMS:
        raise InputError(f"{out}: give a .mp4, .mkv or .gif, or a folder for one mask a frame")
    if not first.any():
        raise InputError(f"{mask}: this mask marks nothing to follow: it is black everywhere")
    opened = as_encoder(subject, device)
    if opened.modality == "text":
        raise InputError(
            f"{subject}: an encoder of texts sees no frames; give a run on images or clips, such as track_color"
        )
    encoder, side = at_grid(opened)
    squashed, shape, rate = looked_through(clip, side)
    if first.shape != shape:
        raise InputError(
            f"{mask}: the mask has {first.shape[1]}x{first.shape[0]} pixels, the frames of {clip} {shape[1]}x"
            f"{shape[0]}: they must be equal"
        )
    cut = " (longer clips are not followed to their end)" if len(squashed) == LONGEST else ""
    values = [int(v) for v in np.unique(first) if v]
    start = np.zeros_like(first)
    for number, value in enumerate(values, 1):
        start[first == value] = number
    listen(
        {
            "kind": "note",
            "text": f"following {plural(len(values), 'object')} through {plural(len(squashed), 'frame')}{cut}",
        }
    )
    found = in_full(followed_on_grid(encoder, squashed, start, pointer, listen), start)
    if out.suffix:
        write_video(out, overlaid((frame for frame, _ in frames_of(clip)), found), rate)
        return out
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        kept = np.uint8 if max(values) < 256 else np.uint16
        for at, ids in enumerate(found):
            Image.fromarray(np.array([0, *values])[ids].astype(kept)).save(out / f"{at:05d}.png")
    return out


def _squashed(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def frames_of(clip: str | Path) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """Frames (H, W, 3) of a clip in full size, each with its time in seconds, one after the other.

    Raises:
        InputError: where it cannot be read.
    """
    path = Path(clip)
    try:
        if path.is_file() and VIDEOS.named(path.name):
            for frame in itertools.islice(frames_of_file(path), LONGEST):
                turned = np.rot90(frame.to_ndarray(format="rgb24"), int(frame.rotation or 0) % 360 // 90)
                yield np.ascontiguousarray(turned), float(frame.time or 0.0)
        else:
            source = open_videos(path)
            raw = next(source.raw())[1]
            if len(source) > 1 or not isinstance(raw, Frames):
                raise InputError(f"{clip} holds {len(source)} clips: name one video file, or one folder of frames")
            for at, contents in enumerate(raw.images[:LONGEST]):
                image = decode(contents)
                if isinstance(image, Image.Image):
                    yield np.asarray(image.convert("RGB")), at / USUAL_RATE
    except InputError:
        raise
    except Exception as error:  # damaged files raise anything
        raise InputError(f"{clip}: cannot be read: {error}") from None


def looked_through(clip: str | Path, side: int) -> tuple[NDArray[np.uint8], tuple[int, ...], float]:
    """Frames (T, S, S, 3) squashed to a side, height and width of the clip's own, and how many it has a second.

    Raises:
        InputError: where it cannot be read, or its frames are of several sizes.
    """
    small, times = [], []
    sizes: dict[tuple[int, ...], None] = {}
    for image, time in frames_of(clip):
        sizes[image.shape[:2]] = None
        small.append(_squashed(image, side))
        times.append(time)
    if len(small) < 2 or len(sizes) > 1:
        raise InputError(
            f"{clip}: {plural(len(small), 'frame')} of {plural(len(sizes), 'size')}: two or more of one size are needed"
        )
    rate = (len(times) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else USUAL_RATE
    return np.stack(small), next(iter(sizes)), rate


def overlaid(frames: Iterable[NDArray[np.uint8]], ids: Iterable[NDArray[np.integer]]) -> Iterator[NDArray[np.uint8]]:
    """Every frame with what is marked in color, and an outline."""
    for image, marked in zip(frames, ids, strict=True):
        out = image.astype(np.float32)
        for number in np.unique(marked[marked > 0]):
            here = marked == number
            color = COLORS[(int(number) - 1) % len(COLORS)]
            out[here] = (1 - OPACITY) * out[here] + OPACITY * color
            edge = here & ~(np.roll(here, 1, 0) & np.roll(here, -1, 0) & np.roll(here, 1, 1) & np.roll(here, -1, 1))
            out[edge] = 255
        yield out.round().astype(np.uint8)


def write_video(path: Path, frames: Iterator[NDArray[np.uint8]], rate: float) -> None:
    """Writes frames (H, W, 3) as H.264, or as MPEG-4 where this build of FFmpeg has no encoder for it; .gif by Pillow."""
    with replacing(path) as aside:
        if path.suffix.lower() == ".gif":
            images = map(Image.fromarray, frames)
            next(images).save(aside, save_all=True, append_images=images, duration=round(1000 / rate), loop=0)
        else:
            _encode(aside, frames, rate)


def _encode(path: Path, frames: Iterator[NDArray[np.uint8]], rate: float) -> None:
    from fractions import Fraction

    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1000))
        for image in frames:
            even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]  # the codecs want even sides
            if not stream.codec_context.is_open:
                stream.height, stream.width, stream.pix_fmt = even.shape[0], even.shape[1], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")))
        container.mux(stream.encode())
