"""One clip to a fixed-size array: decoded at the size wanted, upright, evenly in time, without black bars.

Axes in comments: T frames, C = 3 channels, S side in pixels, H height, W width.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from withheld.data.decode import MAX_PIXELS, as_hwc, decode
from withheld.data.image import to_array
from withheld.data.sample import spaced
from withheld.data.video import Frames

MOST_FRAMES = 20_000
MOST_RATE = 30.0
ASSUMED_RATE = 25.0
"""Frames a second of folders of frames and arrays, which do not say."""
LOOKED_AT = 12
MOST_SIZES = 2
"""Of the frames of a clip; of long ones a quarter of them may differ."""
DARK, MOST_BAR = 20, 0.4
FORMATS = (
    (4, b"ftyp", "mp4"), (8, b"AVI ", "avi"), (0, b"\x1aE\xdf\xa3", "matroska"), (0, b"GIF8", "gif"), (0, b"OggS", "ogg"),
    (0, b"\x00\x00\x01\xba", "mpeg"), (0, b"\x00\x00\x01\xb3", "mpegvideo"), (0, b"G", "mpegts"),
)  # fmt: skip
LASTS = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)")
Box = tuple[float, float, float, float]


class Clip(NamedTuple):
    """A decoded clip: frames (T, 3, S, S) uint8, how many a second, and what there was to say, "" for nothing."""

    frames: np.ndarray
    rate: float
    note: str


class Made(np.ndarray):
    """Frames that were drawn here: what is black around a sprite is no bar, and to cut it off would tell where the sprite goes."""


def decode_clip(raw: Any, size: int, bars: bool = True) -> Clip:
    """Decodes one clip, every frame squashed to a square.

    Args:
        raw: a path, the contents of a file, `Frames`, an array (T, H, W[, C]), or the error met while reading.
        size: S.
        bars: whether black bars at the edges are cut off.

    Raises:
        Exception: of any kind; damaged files raise what no one expects.
    """
    if isinstance(raw, Exception):
        raise raw
    if isinstance(raw, Frames):
        return _of_images([decode(image, 2 * size) for image in raw.images[:MOST_FRAMES]], size, bars)
    if isinstance(raw, np.ndarray):
        return _of_images(
            [as_hwc(frame) for frame in np.asarray(raw[:MOST_FRAMES])], size, bars and not isinstance(raw, Made)
        )
    return _of_file(raw, size, bars)


def _of_images(images: list[Any], size: int, bars: bool) -> Clip:
    sizes = {(image.shape[1], image.shape[0]) if isinstance(image, np.ndarray) else image.size for image in images}
    if len(sizes) > max(MOST_SIZES, len(images) // 4):
        raise ValueError(
            f"its {len(images):,} images have {len(sizes)} sizes: they are no frames of a clip. Of clips every folder of images is "
            "one; for photographs take a run or model of images"
        )
    frames = np.stack([to_array(image, size, 3) for image in images])
    note = f"its frames have {len(sizes)} different sizes, all were brought to one" if len(sizes) > 1 else ""
    box = bars_of(frames[spaced(len(frames), LOOKED_AT)].max(axis=1))
    if bars and any(box):
        large = [to_array(image, 2 * size, 3) for image in images]
        frames = np.stack([_cut(image, box, size) for image in large])
    return Clip(frames, ASSUMED_RATE, note)


def _cut(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    top, bottom, left, right = box
    H, W = image.shape[1:]
    inner = image[:, round(top * H) : H - round(bottom * H), round(left * W) : W - round(right * W)]
    return to_array(np.ascontiguousarray(inner.transpose(1, 2, 0)), size, 3)


def format_of(head: bytes) -> str:
    """The container format that the first bytes tell, of those that are read.

    Raises:
        ValueError: for any other; playlists and other texts that name further files are among them.
    """
    for at, mark, name in FORMATS:
        if head[at : at + len(mark)] == mark:
            return name
    raise ValueError("is not a video of a format that is read (mp4, mov, avi, mkv, webm, gif, mpeg, ogg)")


@contextmanager
def opened(raw: Path | bytes) -> Iterator[tuple[Any, Any]]:
    """Container and stream of a video: one decoding thread, no file but this one is ever opened.

    Raises:
        ValueError: where it is none.
    """
    import av

    with io.BytesIO(raw) if isinstance(raw, bytes) else open(raw, "rb") as stream:
        head = stream.read(16)
        if not head:
            raise ValueError("the file is empty")
        form = format_of(head)
        stream.seek(0)
        with av.open(stream, format=form, options={"protocol_whitelist": "none"}) as container:
            if not container.streams.video:
                raise ValueError("has sound and no pictures")
            video = container.streams.video[0]
            video.codec_context.thread_count = 1
            if video.codec_context.width * video.codec_context.height > MAX_PIXELS:
                raise ValueError(f"has frames of more than {MAX_PIXELS:,} pixels")
            yield container, video


def frames_of_file(raw: Path | bytes) -> Iterator[Any]:
    """The frames of a file as PyAV gives them, until its end or the first damage."""
    with opened(raw) as (container, video):
        for count, frame in enumerate(container.decode(video)):
            if count == MOST_FRAMES:
                return
            yield frame


def _of_file(raw: Path | bytes, size: int, bars: bool) -> Clip:
    from av.video.reformatter import VideoReformatter

    box: Box | None = None if bars else (0.0, 0.0, 0.0, 0.0)
    waiting: list[Any] = []  # the first frames, until the bars are known
    reformatter = VideoReformatter()  # kept for all frames: building one a frame costs more than decoding it
    frames: list[np.ndarray] = []
    times: list[float] = []
    turn, broken = 0, ""
    with opened(raw) as (container, video):
        expected, nominal = video.frames, float(video.average_rate or video.guessed_rate or ASSUMED_RATE)
        promised = _seconds(container, video)
        decoding = container.decode(video)
        while len(times) < MOST_FRAMES:
            try:
                frame = next(decoding)
            except StopIteration:
                break
            except Exception as error:  # what a damaged stream raises differs from build to build
                broken = " ".join(str(error).split())[:120]
                break
            turn = int(frame.rotation or 0) % 360
            times.append(float(frame.time) if frame.time is not None else len(times) / nominal)
            if box is not None:
                frames.append(_small(reformatter, frame, box, size))
                continue
            waiting.append(frame)
            if len(waiting) == LOOKED_AT:
                box, waiting = _start(reformatter, waiting, frames, size), []
    if waiting:
        _start(reformatter, waiting, frames, size)
    if not frames:
        raise ValueError(broken or "holds no frame")
    array = np.stack(frames)
    if turn in (90, 180, 270):
        array = np.rot90(array, turn // 90, axes=(1, 2))
    order, rate = evenly(np.array(times), nominal)
    array = np.ascontiguousarray(array[order].transpose(0, 3, 1, 2))
    missing = not expected and times[-1] - times[0] + 1 / nominal < 0.9 * promised
    return Clip(array, rate, _told(len(frames), round(promised * nominal) if missing else expected, broken))


def _seconds(container: Any, video: Any) -> float:
    """How long the pictures last as the head of the file has it, where it does not count frames (Matroska); 0 where unknown."""
    match = LASTS.fullmatch(video.metadata.get("DURATION", "").strip())
    if match:
        return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])
    alone = len(container.streams) == 1  # else the sound may last longer
    return container.duration / 1e6 if alone and container.duration else 0.0


def _told(count: int, expected: int, broken: str) -> str:
    if count == MOST_FRAMES:
        return f"only its first {MOST_FRAMES:,} frames are used"
    if broken or count < 0.9 * expected:
        return f"cut short: {count} of {expected or 'unknown'} frames could be read"
    return ""


def _small(reformatter: Any, frame: Any, box: Box, size: int) -> np.ndarray:
    """A frame (S, S, 3): scaled so that what is inside the box becomes S x S, then cut."""
    top, bottom, left, right = box
    width, height = (max(size, round(size / (1 - a - b))) for a, b in ((left, right), (top, bottom)))
    array = reformatter.reformat(frame, width, height, "rgb24", interpolation="AREA", **alone()).to_ndarray()
    y, x = min(round(top * height), height - size), min(round(left * width), width - size)
    return array[y : y + size, x : x + size]


@functools.cache
def alone() -> dict[str, int]:
    """One thread for scaling, where PyAV can be told: small frames are done before several threads have found each other."""
    from av.video.reformatter import VideoReformatter

    return {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}


def _start(reformatter: Any, waiting: list[Any], frames: list[np.ndarray], size: int) -> Box:
    """Looks for black bars in the first frames, makes them small, and gives the shares that stay black."""
    from av.video.reformatter import VideoReformatter

    looking = VideoReformatter()  # one of its own: another size would throw the converter away
    seen = [
        looking.reformat(frame, 160, 160, "gray", interpolation="AREA", **alone()).to_ndarray() for frame in waiting
    ]
    box = bars_of(np.stack(seen))
    frames += [_small(reformatter, frame, box, size) for frame in waiting]
    return box


def bars_of(brightest_THW: np.ndarray) -> Box:
    """Shares of height and width, (top, bottom, left, right), that are dark in every frame: black bars.

    Nothing is called a bar where the whole picture is dark, or where bars would be most of it.
    """
    most = brightest_THW.max(axis=0)
    shares: list[float] = []
    for lit in (most.max(axis=1) > DARK, most.max(axis=0) > DARK):
        if not lit.any():
            return 0.0, 0.0, 0.0, 0.0
        first, last = int(lit.argmax()), int(lit[::-1].argmax())
        bar = (first + last) / len(lit) <= MOST_BAR
        shares += [first / len(lit), last / len(lit)] if bar else [0.0, 0.0]
    return tuple(shares)  # type: ignore[return-value]


def evenly(times_T: np.ndarray, nominal: float) -> tuple[np.ndarray, float]:
    """Which frames to take so that they follow evenly, and how many a second: at most `MOST_RATE`.

    Args:
        times_T: seconds. nominal: what the container says of the rate.
    """
    if len(times_T) < 2 or times_T[-1] <= times_T[0]:
        return np.arange(len(times_T)), min(nominal, MOST_RATE)
    steps = np.diff(times_T)
    native = 1 / max(1e-3, float(np.median(steps)))
    even = bool((np.abs(steps - 1 / native) < 0.35 / native).all())
    if even and native <= MOST_RATE * 1.05:
        return np.arange(len(times_T)), native
    rate = min(MOST_RATE, native)
    ticks = np.arange(times_T[0], times_T[-1] + 0.5 / rate, 1 / rate)[:MOST_FRAMES]
    nearest = np.abs(np.searchsorted((times_T[1:] + times_T[:-1]) / 2, ticks))
    return nearest.clip(0, len(times_T) - 1), rate
