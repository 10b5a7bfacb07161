"""Decoding clips to uint8 squares, ours beside what users write: PyAV frame by frame, and OpenCV.

    python benchmarks/decode.py [--data clips/] [--side 128] [--rounds 5]

Ours is `decode_clip` as the library calls it: black bars looked for in the first frames, every frame scaled while it is converted.
The others convert every frame at full size (`to_ndarray`; `VideoCapture.read` and BGR to RGB) and scale it with OpenCV (area). All
on one thread. Without --data a clip of 256 x 340 is made. Above 1, ours is faster. Last, how long batches from the prepared cache
make a step wait.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from paired import compare

from withheld.data.clip import decode_clip
from withheld.data.clips import ClipItems, find_windows, prepare_clips
from withheld.data.video import open_videos
from withheld.learn.gradient import Loop
from withheld.networks.video import open_video_trunk
from withheld.run import constant, default_encoder, load_method

METHODS = ("videomae", "frame_order", "arrow_of_time", "next_frame")
STEPS = 6


def made(folder: Path, frames: int = 96, height: int = 256, width: int = 340) -> Path:
    """A clip of a smooth picture that moves."""
    coarse = np.random.default_rng(0).integers(40, 255, (9, 18, 3), dtype=np.uint8)
    wide = cv2.resize(coarse, (width + 2 * frames, height), interpolation=cv2.INTER_CUBIC)
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264" if "libx264" in av.codecs_available else "mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for i in range(frames):
            image = np.ascontiguousarray(wide[:, 2 * i : 2 * i + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return folder


def ours(path: Path, side: int) -> int:
    """How many frames."""
    return len(decode_clip(path, side).frames)


def by_frame(path: Path, side: int) -> int:
    """PyAV as its documentation shows it."""
    found = []
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            image = frame.to_ndarray(format="rgb24")
            found.append(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))
    return len(np.stack(found))


def by_opencv(path: Path, side: int) -> int:
    """OpenCV as its documentation shows it."""
    capture, found = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]), []
    while True:
        good, image = capture.read()
        if not good:
            break
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        found.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    capture.release()
    return len(np.stack(found))


def waiting(folder: Path, method: str) -> None:
    """Prints the share of a step that is spent on making its batch."""
    frames, size = int(constant(method, "FRAMES", 8)), 64
    trunk, _ = open_video_trunk(default_encoder(method) or "vit-nano", size=size, frames=frames)
    clips = prepare_clips(open_videos(folder), size)
    windows = find_windows(clips, frames, 0.0)
    if not len(windows):
        print(f"{method:14s} no clip has {frames} frames")
        return
    items = ClipItems(clips, windows, frames, clips.mean, clips.std)
    objective, recipe = load_method(method)(trunk)
    objective.fit_parts(items.batch(np.arange(min(4, len(items))), "cpu"))
    loop = Loop(objective, items, recipe.change(batch_size=8), steps=STEPS, seed=0, device=torch.device("cpu"))
    loop.seconds_per_step(1, 0.0)
    loop.run()
    total = sum(loop.seconds.values())
    print(f"{method:14s} waits {loop.seconds['data'] / total:.2%} of {1000 * total / STEPS:.0f} ms a step")


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or made(Path(folder))
        paths = [path for path in sorted(data.rglob("*")) if path.suffix in (".mp4", ".avi", ".mkv", ".webm", ".mov")]
        for name, peer in (("to_ndarray", by_frame), ("OpenCV", by_opencv)):
            compare(
                lambda number: ours(paths[number % len(paths)], options.side),
                lambda number, peer=peer: peer(paths[number % len(paths)], options.side),  # type: ignore[misc]
                options.rounds, ("ours", name), "frames", what=f"decoding of frames beside {name}",
            )  # fmt: skip
        for method in METHODS:
            waiting(data, method)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
