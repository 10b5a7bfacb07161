"""Clips that are too large for the cache, clips in tables, and folders that mix everything."""

import io
import json
import shutil
import tarfile

import av
import numpy as np
import pytest
import torch
from PIL import Image

import withheld
from withheld.data import cache
from withheld.data.clips import ClipItems, decoded_clips, find_windows, prepare_clips, same_clips
from withheld.data.describe_clips import describe_clips
from withheld.data.stream_clips import StreamedFrames
from withheld.data.video import open_videos
from withheld.data.wanted import named_modality
from withheld.errors import InputError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WITHHELD_CACHE", str(tmp_path / "cache"))


def film(seed, frames=8, height=32, width=48, rate=12):
    """The contents of an mp4 of a smooth picture that moves."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(40, 255, (4, 8, 3), dtype=np.uint8))
    wide = np.asarray(coarse.resize((width + 2 * frames, height), Image.Resampling.BICUBIC))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for i in range(frames):
            image = np.ascontiguousarray(wide[:, 2 * i : 2 * i + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


@pytest.fixture
def films(tmp_path):
    (tmp_path / "films").mkdir()
    for i in range(4):
        (tmp_path / "films" / f"{i}.mp4").write_bytes(film(i, frames=6 + i))
    return tmp_path / "films"


def test_what_is_too_large_for_the_cache_is_decoded_when_asked_for(films, tmp_path, monkeypatch):
    kept = prepare_clips(open_videos(films), 16)
    monkeypatch.setenv("WITHHELD_CACHE", str(tmp_path / "small"))
    monkeypatch.setattr(cache, "MOST_BYTES", 12_000)
    streamed = prepare_clips(open_videos(films), 16)
    assert isinstance(streamed.images, StreamedFrames)
    assert sum(file.stat().st_size for file in (tmp_path / "small").rglob("*") if file.is_file()) < 12_000
    assert streamed.starts.tolist() == kept.starts.tolist()
    assert np.array_equal(streamed.motion, kept.motion)
    assert np.array_equal(streamed.images[:], kept.images[:])
    both = []
    for clips in (kept, streamed):
        windows = find_windows(clips, 4, 0.0)
        items = ClipItems(clips, windows, 4, clips.mean, clips.std)
        both.append(items.batch(np.array([len(windows) - 1, 0]), "cpu"))
    assert torch.equal(*both)
    again = prepare_clips(open_videos(films), 16)
    assert isinstance(again.images, StreamedFrames)
    assert len(decoded_clips(open_videos(films), 16)[0]) == 4


def test_what_cannot_be_read_at_random_says_what_to_do(films, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "films.tar.gz", "w:gz") as archive:
        archive.add(films, "films")
    monkeypatch.setattr(cache, "MOST_BYTES", 12_000)
    with pytest.raises(InputError, match="unpack it into a folder"):
        prepare_clips(open_videos(tmp_path / "films.tar.gz"), 16)


def test_a_file_that_changed_is_named(films, monkeypatch):
    monkeypatch.setattr(cache, "MOST_BYTES", 12_000)
    clips = prepare_clips(open_videos(films), 16)
    (films / "2.mp4").write_bytes(b"gone")
    with pytest.raises(InputError, match=r"2\.mp4: could be read before"):
        clips.images[:]


def test_clips_of_a_saved_hub_set(tmp_path):
    datasets = pytest.importorskip("datasets")
    table = {"clip": [film(0), film(1), b"broken"], "label": ["a", "b", "a"]}
    features = datasets.Features({"clip": datasets.Value("binary"), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(table, features=features).save_to_disk(tmp_path / "bytes")
    source = open_videos(f"hf:{tmp_path / 'bytes'}", True)
    assert source.classes == ["a", "b"]
    clips = prepare_clips(source, 16, allow_bad=0.5)
    assert np.diff(clips.starts).tolist() == [8, 8]
    assert len(clips.skipped) == 1


def test_clips_of_a_video_feature_need_no_other_decoder(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = {"video": [{"bytes": film(i), "path": None} for i in range(2)]}
    struct = datasets.Dataset.from_dict(rows).cast_column("video", datasets.Video(decode=False))
    struct.save_to_disk(tmp_path / "videos")
    clips = prepare_clips(open_videos(f"hf:{tmp_path / 'videos'}"), 16)
    assert len(clips) == 2


def test_clips_of_a_parquet_file(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"video": [film(0), film(1)], "label": ["x", "y"]}), tmp_path / "clips.parquet")
    source = open_videos(tmp_path / "clips.parquet", True)
    assert (len(source), source.classes) == (2, ["x", "y"])
    assert len(prepare_clips(source, 16)) == 2


def test_videos_and_folders_of_frames_beside_each_other(tmp_path):
    root = tmp_path / "mixed"
    (root / "a").mkdir(parents=True)
    (root / "b" / "walk").mkdir(parents=True)
    (root / "a" / "run.mp4").write_bytes(film(0))
    for i in range(3):
        picture = Image.fromarray(np.random.default_rng(i).integers(0, 255, (20, 30, 3), dtype=np.uint8))
        picture.save(root / "a" / f"preview{i}.jpg")  # beside a video: no frames
        picture.save(root / "b" / "walk" / f"{i:03d}.png")
    source = open_videos(root, True)
    assert sorted(source.names) == ["a/run.mp4", "b/walk"]
    assert [source.classes[label] for label in source.labels] == [name[0] for name in source.names]
    clips = prepare_clips(source, 16)
    assert dict(zip(clips.names, np.diff(clips.starts).tolist(), strict=True)) == {"a/run.mp4": 8, "b/walk": 3}
    assert dict(zip(clips.names, clips.rates.tolist(), strict=True)) == {"a/run.mp4": 12.0, "b/walk": 25.0}


def test_folders_of_single_images_are_no_classes_of_clips(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / f"{i}.png")
    with pytest.raises(InputError, match=r"holds images: every folder of them is read as one clip.*above the 2 here"):
        open_videos(tmp_path, labels=True)


def test_a_folder_of_photographs_is_no_clip(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(6):
        Image.fromarray(np.zeros((20 + i, 30, 3), np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    source = open_videos(tmp_path / "photos")
    assert source.names == ["photos"], "a folder of frames has a name"
    with pytest.raises(InputError, match=r"its 6 images have 6 sizes: they are no frames of a clip.*model of images"):
        prepare_clips(source, 16)


def test_a_folder_read_as_one_clip_is_said(tmp_path):
    from withheld.evaluate.judged import judged
    from withheld.networks.video import open_video_trunk
    from withheld.video_encoder import VideoEncoder

    for i in range(6):
        Image.fromarray(np.full((20, 30, 3), 9 * i, np.uint8)).save(tmp_path / f"{i}.png")
    trunk, _ = open_video_trunk("vit-nano", size=16, frames=2)
    heard = []
    clips, _ = judged(VideoEncoder(trunk, [0.1] * 3, [0.3] * 3)).decode(open_videos(tmp_path), heard.append)
    assert len(clips) == 1
    assert "read as the frames of one clip" in heard[0]["text"]


def test_clips_that_cannot_be_read_or_are_too_short_are_no_clips_learned_from(films, tmp_path):
    """Four films of 6 to 9 frames, windows of 8: two are too short, and a broken one is no clip with a remark."""
    (films / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\1" * 300)
    heard = []
    run = withheld.pretrain(
        "videomae", str(films), tmp_path / "run", steps=1, size=16, settings={"frames": 8, "rate": 0}, pictures=False,
        listen=lambda event: heard.append(event.get("text", "")),
    )  # fmt: skip
    assert any(
        said.startswith("1 of 5 clips could not be read and was left out: 'broken.mp4' (Invalid") for said in heard
    )
    short = next(said for said in heard if said.startswith("2 of 4 clips are shorter than 8 frames and left out: '"))
    assert short.count(".") == 2
    assert run.settings["data"]["clips"] == 2
    lines = [json.loads(line) for line in (run.folder / "skipped.jsonl").read_text(encoding="utf-8").splitlines()]
    reason = next(line["reason"] for line in lines if line["file"] == "broken.mp4")
    assert reason.startswith("InvalidDataError")
    assert str(films) not in reason


def test_gifs_that_move_are_clips_and_still_ones_are_pictures(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), 30 * i, np.uint8)) for i in range(4)]
    for folder, rest in (("moving", frames[1:]), ("still", [])):
        (tmp_path / folder).mkdir()
        for i in range(3):
            frames[0].save(tmp_path / folder / f"{i}.gif", save_all=True, append_images=rest, duration=80)
    (tmp_path / "moving" / "broken.gif").write_bytes(b"GIF89a")
    assert named_modality(tmp_path / "moving") == "video"
    assert named_modality(tmp_path / "moving" / "0.gif") == "video"
    assert named_modality(tmp_path / "still") == "image"


def test_clips_that_are_there_twice_are_told(films, tmp_path):
    shutil.copy(films / "1.mp4", films / "copy of 1.mp4")
    for folder in ("a", "b", "c"):
        (films / folder).mkdir()
        for i in range(4):
            shade = np.full((16, 16, 3), 40 * i + 5 * (folder == "c"), np.uint8)
            Image.fromarray(shade).save(films / folder / f"{i}.bmp")  # equal in size, whatever it shows
    assert dict(describe_clips(films))["duplicates"] == "2 exact, such as '1.mp4' and 'copy of 1.mp4'"
    clips = prepare_clips(open_videos(films), 16)
    groups = dict(zip(clips.names, same_clips(clips, np.arange(len(clips))), strict=True))
    assert len(set(groups.values())) == len(groups) - 2
    assert groups["1.mp4"] == groups["copy of 1.mp4"]
    assert groups["a"] == groups["b"] != groups["c"]


def test_a_run_on_equal_clips_is_told_so(tmp_path):
    (tmp_path / "films").mkdir()
    for i in range(10):
        (tmp_path / "films" / f"{i}.mp4").write_bytes(film(0))
    run = withheld.pretrain(
        "videomae", tmp_path / "films", tmp_path / "run", steps=1, size=16, batch_size=2, settings={"frames": 4}
    )
    found = {each["vital"]: each for each in run.log()[-1]["health"]["findings"]}
    assert (found["copies"]["state"], found["copies"]["illness"]) == ("sick", "duplicated data")
