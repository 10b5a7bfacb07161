"""Clips from files nobody vouches for."""

import io
import tarfile
import zipfile
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from sprites import falling_sprites, motion_classes, moving_sprites
from withheld.data.clip import bars_of, decode_clip, evenly, format_of
from withheld.data.clips import ClipItems, decoded_clips, find_windows, movement, moving, need_windows, prepare_clips
from withheld.data.video import frames_of, open_videos
from withheld.errors import InputError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WITHHELD_CACHE", str(tmp_path / "cache"))


def frames(count=20, height=48, width=64, seed=0, shift=2):
    """A smooth picture that moves to the right."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(40, 255, (6, 12, 3), dtype=np.uint8))
    wide = np.asarray(coarse.resize((width + shift * count, height), Image.Resampling.BICUBIC))
    return np.stack([wide[:, shift * i : shift * i + width] for i in range(count)])


def written(path, clip, rate=25, codec="mpeg4", times=None, turn=0):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = clip.shape[1], clip.shape[2], "yuv420p"
        stream.bit_rate = 4_000_000
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, image in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = int(times[i] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_file_is_decoded_as_it_was_written(tmp_path):
    clip = frames(height=64)
    found = decode_clip(written(tmp_path / "a.mp4", clip), 64)
    assert found.frames.shape == (20, 3, 64, 64)
    assert found.rate == pytest.approx(25)
    assert found.note == ""
    assert np.abs(found.frames.astype(float) - clip.transpose(0, 3, 1, 2)).mean() < 8
    # and level with a naive loop over PyAV's own conversion
    with av.open(str(tmp_path / "a.mp4")) as container:
        naive = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert np.abs(found.frames.astype(float) - naive.transpose(0, 3, 1, 2)).mean() < 1.5


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".mov"])
def test_containers(tmp_path, suffix):
    path = written(tmp_path / f"a{suffix}", frames(12))
    for raw in (path, path.read_bytes()):
        assert decode_clip(raw, 32).frames.shape == (12, 3, 32, 32)


def test_a_gif_is_a_clip(tmp_path):
    images = [Image.fromarray(image) for image in frames(8)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100)
    found = decode_clip(tmp_path / "a.gif", 32)
    assert found.frames.shape == (8, 3, 32, 32)
    assert found.rate == pytest.approx(10, rel=0.05)


@pytest.mark.promise("R8", "a cut video")
def test_a_file_that_is_cut_short_says_so_and_gives_what_it_has(tmp_path):
    path = written(tmp_path / "a.avi", np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = decode_clip(path, 32)
    assert 5 < len(found.frames) < 38
    assert "cut short" in found.note


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is text", "not a video"),
        (b"#EXTM3U\n#EXTINF:10,\n/etc/passwd\n", "not a video"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not a video"),
    ],
)
def test_what_is_no_video_is_named(contents, reason):
    with pytest.raises(ValueError, match=reason):
        decode_clip(contents, 32)


def test_sound_without_pictures(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="sound and no pictures"):
        decode_clip(tmp_path / "a.mp4", 32)


def test_black_bars_are_cut_off(tmp_path):
    clip = frames(12, 64, 64)
    barred = np.zeros((12, 96, 64, 3), np.uint8)
    barred[:, 16:80] = clip
    plain = decode_clip(written(tmp_path / "a.mp4", clip), 32).frames.astype(float)
    found = decode_clip(written(tmp_path / "b.mp4", barred), 32).frames.astype(float)
    kept = decode_clip(tmp_path / "b.mp4", 32, bars=False).frames.astype(float)
    assert np.abs(found - plain).mean() < 10
    assert np.abs(kept - plain).mean() > 25
    assert bars_of(np.full((3, 10, 10), 5)) == (0, 0, 0, 0)


def test_frames_are_taken_evenly_in_time():
    even, rate = evenly(np.arange(10) / 25, 25)
    assert (even == np.arange(10)).all()
    assert rate == pytest.approx(25)
    fast, rate = evenly(np.arange(120) / 60, 60)
    assert rate == pytest.approx(30)
    assert (fast == np.arange(0, 120, 2)).all()
    times = np.array([0, 1, 2, 3, 10, 11]) / 20  # a gap: the last frame stands still
    order, rate = evenly(times, 20)
    assert rate == pytest.approx(20)
    assert len(order) == 12
    assert (np.abs(times[order] - np.arange(12) / 20) <= 3.6 / 20).all()


def test_a_variable_rate_is_made_even(tmp_path):
    times = np.concatenate([np.arange(10) / 25, 0.4 + np.arange(10) / 5])
    found = decode_clip(written(tmp_path / "a.mkv", frames(20), times=times), 32)
    assert len(found.frames) == pytest.approx(times[-1] * 25 + 1, abs=2)


def test_folders_of_frames_are_clips_in_the_order_of_their_numbers(tmp_path):
    clip = frames(12)
    for part in ("JPEGImages", "Annotations"):
        folder = tmp_path / part / "480p" / "dog"
        folder.mkdir(parents=True)
        for i, image in enumerate(clip):
            Image.fromarray(image).save(folder / f"frame{i}.png")
    source = open_videos(tmp_path)
    assert source.names == ["JPEGImages/480p/dog"]
    found = decode_clip(next(source.raw())[1], 64)
    last = np.asarray(Image.fromarray(clip[11]).resize((64, 64))).transpose(2, 0, 1)
    assert np.abs(found.frames[11].astype(float) - last).mean() < 6


def archive_of(folder, path):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, ".")
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_archives_of_videos_and_of_frames(tmp_path, suffix):
    videos, pictures = tmp_path / "videos", tmp_path / "frames"
    for label in ("run", "walk"):
        (videos / label).mkdir(parents=True)
        for i in range(2):
            written(videos / label / f"{i}.mp4", frames(6, seed=i))
            (pictures / label / str(i)).mkdir(parents=True)
            for k, image in enumerate(frames(5, seed=i)):
                Image.fromarray(image).save(pictures / label / str(i) / f"{k}.jpg")
    for folder, count in ((videos, 6), (pictures, 5)):
        source = open_videos(archive_of(folder, tmp_path / f"{folder.name}{suffix}"), labels=True)
        assert source.classes == ["run", "walk"]
        assert len(source) == 4
        clips = prepare_clips(source, 32)
        assert np.diff(clips.starts).tolist() == [count] * 4
        assert clips.labels.tolist() == [0, 0, 1, 1]


def test_nothing_to_read_says_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"found 0 clips.*\.mp4.*1 with \.txt"):
        open_videos(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    with pytest.raises(InputError, match="no folder with two or more frames"):
        open_videos(tmp_path)
    with pytest.raises(InputError, match="there is no file"):
        open_videos(tmp_path / "nowhere")


@pytest.mark.promise("R8", "broken clips")
def test_broken_clips_are_skipped_and_listed(tmp_path):
    for i in range(9):
        written(tmp_path / f"{i}.mp4", frames(6, seed=i))
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\1" * 300)
    clips = prepare_clips(open_videos(tmp_path), 32)
    assert len(clips) == 9
    assert [line["file"] for line in clips.skipped] == ["broken.mp4"]
    for i in range(5):
        (tmp_path / f"broken{i}.mp4").write_bytes(b"no")
    with pytest.raises(InputError, match="6 of 15 clips"):
        prepare_clips(open_videos(tmp_path), 32)


def test_a_cut_is_found_and_no_window_crosses_it():
    clip = np.concatenate([frames(20, seed=1), 255 - frames(20, seed=2)]).transpose(0, 3, 1, 2)
    moved, cuts = movement(np.ascontiguousarray(clip))
    assert np.flatnonzero(cuts).tolist() == [0, 20]
    assert moved[0] == 0
    source = open_videos([clip.transpose(0, 2, 3, 1)])
    clips = prepare_clips(source, 32)
    windows = find_windows(clips, 8, 0)
    assert len(windows)
    assert not ((windows.first < 20) & (windows.first + 8 > 20)).any()


def test_windows_keep_their_rate_and_items_are_the_frames():
    source = open_videos([frames(30, seed=i) for i in range(3)])
    clips = prepare_clips(source, 32)
    windows = find_windows(clips, 4, 12.5)  # the arrays count as 25 a second
    items = ClipItems(clips, windows, 4, [0.0] * 3, [1.0] * 3)
    places = items.places(np.arange(len(items)))
    assert (np.diff(places, axis=1) == 2).all()
    assert (places.max(axis=1) < clips.starts[windows.clip + 1]).all()
    batch = items.batch(np.array([0, 2]), "cpu")
    assert batch.shape == (2, 4, 3, 32, 32)
    expected = clips.images[places[2][1]].astype(np.float32) / 255
    assert np.abs(batch[1, 1].numpy() - expected).max() < 1e-6


def test_windows_without_motion_are_left_out():
    still = np.repeat(frames(1), 30, axis=0)
    clips = prepare_clips(open_videos([still, frames(30)]), 32)
    windows = find_windows(clips, 8, 0)
    assert set(moving(windows, 1.0).clip.tolist()) == {1}
    assert len(moving(windows, 0.5)) == pytest.approx(len(moving(windows, 1.0)) / 2, abs=1)


def test_clips_that_are_too_short_are_said():
    clips = prepare_clips(open_videos([frames(5), frames(6)]), 32)
    windows = find_windows(clips, 8, 0)
    assert windows.short == ["clip:0", "clip:1"]
    with pytest.raises(InputError, match="the longest has 6 frames"):
        need_windows(windows, clips, 8, 0)


def test_decoded_clips_are_those_of_the_source():
    data = [frames(5 + i, seed=i) for i in range(3)]
    found, kept, skipped = decoded_clips(open_videos(data), 32)
    assert [len(clip.frames) for clip in found] == [5, 6, 7]
    assert kept.tolist() == [0, 1, 2]


def test_format_is_told_by_the_first_bytes():
    assert format_of(b"\0\0\0 ftypisom") == "mp4"
    assert format_of(b"RIFF\0\0\0\0AVI LIST") == "avi"
    with pytest.raises(ValueError, match="mp4, mov"):
        format_of(b"RIFF\0\0\0\0WAVEfmt ")


class TestSynthetic:
    sprites = np.full((3, 8, 8), 200, np.uint8)

    def test_bouncing_is_reversible(self):
        """Forward and backward have the same distribution of speeds: every step is as long as every other but at walls."""
        clips = moving_sprites(self.sprites, 4, frames=12, size=32, each=1)
        assert clips.shape == (4, 12, 32, 32)
        again = moving_sprites(self.sprites, 4, frames=12, size=32, each=1)
        assert (clips == again).all()

    def test_falling_loses_height(self):
        clips = falling_sprites(self.sprites, 30, frames=60, size=32, each=1)
        height = [[np.flatnonzero(frame.any(axis=1)).mean() for frame in clip] for clip in clips]
        first, last = np.array(height)[:, :20].mean(), np.array(height)[:, -20:].mean()
        assert last > first + 2  # rows count from the top

    def test_motion_classes_are_all_there(self):
        clips, labels = motion_classes(self.sprites, 12, frames=8, size=32)
        assert clips.shape == (12, 8, 32, 32)
        assert np.bincount(labels).tolist() == [2] * 6
        column = lambda frame: np.flatnonzero(frame.any(axis=0)).mean()  # noqa: E731
        left = [column(c[-1]) - column(c[0]) for c, label in zip(clips, labels, strict=True) if label == 0]
        right = [column(c[-1]) - column(c[0]) for c, label in zip(clips, labels, strict=True) if label == 1]
        assert max(left) < 0 < min(right)


def test_frames_in_one_folder_alone_are_left_out(tmp_path):
    from withheld.data.source import open_source

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for i in range(3):
        Image.new("RGB", (16, 16)).save(tmp_path / "a" / f"{i}.png")
    Image.new("RGB", (16, 16)).save(tmp_path / "b" / "0.png")
    source = frames_of(open_source(tmp_path), "x", None, tmp_path)
    assert source.names == ["a"]
    assert source.left_out == [{"file": "b", "reason": "one image is no clip"}]


def test_contents_in_memory_need_no_file():
    buffer = io.BytesIO()
    images = [Image.fromarray(image) for image in frames(4)]
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=40)
    assert decode_clip(buffer.getvalue(), 32).frames.shape[0] == 4
