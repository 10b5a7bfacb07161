"""Files that bits were lost from: an item, or a reason why not; never a crash, a hang, or a wrong item in silence (R6-R8, R10).

Every mutant is made here, from small files, by a seed.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from small_files import encoded, photo

import withheld
from withheld.data.clip import decode_clip
from withheld.data.decode import decode
from withheld.data.image import to_array
from withheld.data.prepared import prepare
from withheld.data.source import open_source
from withheld.errors import InputError

Tally = Callable[[str, int, int, str], None]
LONGEST = 5.0  # seconds that one file may take


@contextmanager
def no_hang(seconds: float = LONGEST) -> Iterator[None]:
    """Ends what takes longer."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def late(*_: object) -> None:
        raise AssertionError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def mutant(whole: list[bytes], at: int, rng: np.random.Generator) -> tuple[bytes, str]:
    """File `at` cut short, with flipped bits, another head, a part of another file, or bytes too many or missing."""
    data = bytearray(whole[at % len(whole)])
    kind = ("cut", "flip", "head", "splice", "insert", "remove")[int(rng.integers(6))]
    place = int(rng.integers(len(data)))
    if kind == "cut":
        data = data[:place]
    elif kind == "flip":
        for spot in rng.integers(0, len(data), int(rng.integers(1, 12))):
            data[spot] ^= 1 << int(rng.integers(8))
    elif kind == "head":
        data[:16] = rng.bytes(16)
    elif kind == "splice":
        data = data[:place] + whole[int(rng.integers(len(whole)))][place:]
    elif kind == "insert":
        data[place:place] = rng.bytes(int(rng.integers(1, 40)))
    else:
        del data[place : place + int(rng.integers(1, 40))]
    return bytes(data), kind


def picture_files() -> tuple[list[bytes], list[str]]:
    """Small files of all formats that are read, and which of them can tell that a bit is wrong."""
    picture, grey = photo(3), photo(4)[..., 0]
    forms = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "PNG grey", "JPEG progressive", "TIFF deflate", "NPY"]
    files = [encoded(picture, form) for form in forms[:7]]
    files += [encoded(grey, "PNG"), encoded(picture, "JPEG", progressive=True)]
    files.append(encoded(picture, "TIFF", compression="tiff_deflate"))
    stream = io.BytesIO()
    np.save(stream, grey)
    return [*files, stream.getvalue()], forms


@pytest.mark.promise("R6")
def test_3000_mutated_images(tally: Tally) -> None:
    """Decoded or refused; and one that was cut short is refused, or is the whole picture still."""
    files, forms = picture_files()
    rng = np.random.default_rng(0)
    sound = [to_array(decode(data, 16), 16, 3) for data in files]
    found, wrong, slowest, errors = Counter(), [], 0.0, Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(3000):
            data, kind = mutant(files, i, rng)
            begun = time.perf_counter()
            try:
                with no_hang():
                    array = to_array(decode(data, 16), 16, 3)
            except Exception as error:
                found["refused"] += 1
                errors[type(error).__name__] += 1
            else:
                found["decoded"] += 1
                assert array.shape == (3, 16, 16)
                assert array.dtype == np.uint8
                # What is missing at the end must be noticed; PNG has sums over everything that matters.
                whole = sound[i % len(files)]
                if kind == "cut" and not np.array_equal(array, whole):
                    wrong.append((i, kind, forms[i % len(files)]))
                if kind == "flip" and forms[i % len(files)] == "PNG" and not np.array_equal(array, whole):
                    wrong.append((i, kind, "PNG"))
            slowest = max(slowest, time.perf_counter() - begun)
    assert not wrong, wrong
    assert found["decoded"] > 300
    assert found["refused"] > 1500
    assert len(errors) >= 4  # many kinds of exception, all of them caught
    what = f"mutated images: {found['decoded']:,} decoded, {found['refused']:,} refused, 0 crashes, 0 cut ones taken for whole"
    tally("R6", 3000, 3000, what)


@pytest.mark.promise("R6")
def test_a_folder_in_which_a_third_is_broken_lists_exactly_those(tmp_path: Path, tally: Tally) -> None:
    """Of 300 files 90 are broken in ways that are known, and what is no file at all is there too."""
    folder = tmp_path / "photos"
    folder.mkdir()
    files, forms = picture_files()
    rng = np.random.default_rng(1)
    broken = set(rng.choice(300, 90, replace=False).tolist())
    names = {
        "JPEG": "jpg",
        "PNG": "png",
        "WEBP": "webp",
        "BMP": "bmp",
        "TIFF": "tif",
        "GIF": "gif",
        "PPM": "ppm",
        "NPY": "npy",
    }
    expected, good = set(), 0
    for i in range(300):
        name = f"{i:03d}.{names[forms[i % len(files)].split()[0]]}"
        data = files[i % len(files)]
        if i in broken:
            expected.add(name)
            ways = (data[: len(data) // 3], b"", b"this is text" * 20, b"\0" * len(data))
            data = ways[i % 4]
        else:
            good += 1
        (folder / name).write_bytes(data)
    (folder / "folder.jpg").mkdir()
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "nowhere.png").symlink_to("/nonexistent/file.png")
    (folder / "outside.png").symlink_to("/etc/hostname")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "fifo.png")
    with no_hang(60):
        source = open_source(str(folder))
        prepared = prepare(source, 16, 3, allow_bad=0.5)
    skipped = {line["file"] for line in prepared.skipped}
    assert skipped - {"folder.jpg", "loop.png", "nowhere.png", "outside.png", "fifo.png"} == expected
    assert len(prepared) == good
    assert all(line["reason"] for line in prepared.skipped)
    with pytest.raises(InputError, match="allowed are 20%"):
        prepare(source, 16, 3)
    tally("R6", len(expected), 90, "broken files among 300: skipped, and listed exactly, with the reason")


@pytest.mark.promise("R6")
def test_the_list_of_a_run_is_exact(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(40):
        data = encoded(photo(i), "PNG")
        (folder / f"{i:02d}.png").write_bytes(data[: len(data) // 2] if i % 9 == 4 else data)
    out = tmp_path / "run"
    withheld.pretrain("mae", str(folder), out, steps=1, size=16, batch_size=8, pictures=False, device="cpu")
    lines = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == ["04.png", "13.png", "22.png", "31.png"]
    assert json.loads((out / "run.json").read_text())["data"]["items"] == 36


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be very large."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 9999)) + chunk(b"IEND", b"")
    )


@pytest.mark.promise("R7")
@pytest.mark.skipif(sys.platform == "win32", reason="memory of a process is asked of POSIX")
def test_bombs_cost_nothing(tally: Tally) -> None:
    import resource

    many = io.BytesIO()
    frame = Image.new("P", (64, 64))
    frame.save(many, "GIF", save_all=True, append_images=[frame] * 500)
    bombs = [bomb(20_000, 20_000), bomb(60_000, 60_000), bomb(2_000_000_000, 1), bomb(1, 100_000_000), bomb(8001, 8001)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in bombs:
            with pytest.raises(Exception, match=r"pixels|Decompression|size"), no_hang():
                decode(data, 16)
            refused += 1
        with no_hang():
            assert to_array(decode(many.getvalue(), 16), 16, 3).shape == (3, 16, 16)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 300
    tally("R7", refused, len(bombs), "images that unfold to gigabytes, refused with less than 300 MB of memory")


def clip_files(folder: Path) -> list[bytes]:
    """Small videos of four containers."""
    import av

    rng = np.random.default_rng(5)
    wide = np.asarray(Image.fromarray(rng.integers(40, 255, (4, 10, 3), np.uint8)).resize((80, 32)))
    found = []
    for suffix, codec in ((".mp4", "mpeg4"), (".avi", "mpeg4"), (".mkv", "mpeg4"), (".mov", "mjpeg")):
        path = folder / f"clip{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width = 32, 48
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for i in range(12):
                container.mux(
                    stream.encode(av.VideoFrame.from_ndarray(wide[:, 2 * i : 2 * i + 48].copy(), format="rgb24"))
                )
            container.mux(stream.encode())
        found.append(path.read_bytes())
    return found


@pytest.mark.promise("R8")
def test_400_mutated_videos(tmp_path: Path, tally: Tally) -> None:
    """All frames, or fewer and a note that says so, or refused."""
    files = clip_files(tmp_path)
    whole = [len(decode_clip(data, 16, False).frames) for data in files]
    assert whole == [12] * 4
    rng = np.random.default_rng(2)
    found, silent, slowest = Counter(), [], 0.0
    for i in range(400):
        data, kind = mutant(files, i, rng)
        begun = time.perf_counter()
        try:
            with no_hang():
                clip = decode_clip(data, 16, False)
        except Exception:
            found["refused"] += 1
        else:
            found["decoded"] += 1
            assert clip.frames.shape[1:] == (3, 16, 16)
            if len(clip.frames) < 12 and kind == "cut":
                found["shorter"] += 1
                if not clip.note:
                    silent.append((i, len(clip.frames)))
        slowest = max(slowest, time.perf_counter() - begun)
    assert found["decoded"] > 60
    assert found["refused"] > 60
    assert not silent, silent
    what = f"mutated videos: {found['decoded']} decoded, {found['refused']} refused, 0 crashes, 0 hangs"
    tally("R8", 400, 400, what)


@pytest.mark.promise("S8")
@pytest.mark.parametrize("kind", ["m3u8", "concat", "sdp"])
def test_lists_of_addresses_named_as_videos_open_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    secret = tmp_path / "secret.mp4"
    secret.write_bytes(clip_files(tmp_path)[0])

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    text = {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n#EXTINF:5,\n{secret}\n",
        "concat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9999 RTP/AVP 96\n",
    }[kind]
    (tmp_path / "list.mp4").write_text(text)
    with no_hang(), pytest.raises(Exception, match=r"."):
        decode_clip(tmp_path / "list.mp4", 16)
