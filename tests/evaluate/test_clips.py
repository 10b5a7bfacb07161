"""The verdict on clips, floors whose answer is known, and the road on the command line."""

import av
import numpy as np
import pytest
from click.testing import CliRunner

from sprites import motion_classes
from withheld.cli import main
from withheld.data.synthetic import MOTIONS
from withheld.errors import InputError
from withheld.evaluate.classify_clips import ClipFloor, middle_pixels, motion_histogram
from withheld.evaluate.verdict import verdict
from withheld.image_encoder import ImageEncoder
from withheld.networks.open import open_trunk
from withheld.networks.video import open_video_trunk
from withheld.video_encoder import VideoEncoder

SPRITES = np.random.default_rng(0).integers(60, 255, (20, 12, 12), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WITHHELD_CACHE", str(tmp_path / "cache"))


def test_the_histogram_of_motion_points_where_things_go():
    clips, labels = motion_classes(SPRITES, 60, frames=10, size=32)
    found = np.stack([motion_histogram(np.repeat(clip[:, None], 3, axis=1)) for clip in clips]).reshape(60, 12, 8)
    strongest = (found**2).sum(axis=1).argmax(axis=1)
    for name, direction in (("right", 0), ("down", 2), ("left", 4), ("up", 6)):
        assert np.bincount(strongest[labels == MOTIONS.index(name)], minlength=8).argmax() == direction


def test_floors_give_a_row_a_clip():
    from withheld.data.clip import Clip

    clips = [Clip(np.zeros((6, 3, 32, 32), np.uint8), 25.0, "")] * 2
    assert ClipFloor(middle_pixels).transform(clips).shape == (2, 768)
    assert ClipFloor(motion_histogram).transform(clips).shape == (2, 96)


def test_a_verdict_on_clips():
    trunk, _ = open_video_trunk("vit-nano", size=16, frames=2)
    encoder = VideoEncoder(trunk, [0.1] * 3, [0.3] * 3)
    found = verdict(
        encoder, motion_classes(SPRITES, 120, frames=6, size=16), labels_per_class=(5,), seeds=2, minutes=0.3
    )
    rows = {score.method: score.value for score in found.scores}
    assert {"histogram of motion", "pixels of the middle frame", "linear probe", "kNN", "random frozen"} <= set(rows)
    assert found.sentence.startswith("With 5 labels per class")


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_the_road_of_clips(tmp_path):
    clips, _ = motion_classes(SPRITES, 12, frames=12, size=32)
    (tmp_path / "clips").mkdir()
    for i, clip in enumerate(clips):
        with av.open(str(tmp_path / "clips" / f"{i}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=12)
            stream.height = stream.width = 32
            stream.pix_fmt = "yuv420p"
            for image in clip:
                container.mux(
                    stream.encode(av.VideoFrame.from_ndarray(np.repeat(image[..., None], 3, 2), format="rgb24"))
                )
            container.mux(stream.encode())
    arguments = ["pretrain", "videomae", "--data", tmp_path / "clips", "--out", tmp_path / "run", "--steps", 2]
    found = run(*arguments, "--size", 32, "--set", "frames=4", "--set", "rate=0", "--batch-size", 8)
    assert found.exit_code == 0, found.output
    assert (tmp_path / "run" / "pictures" / "split-00.png").is_file()
    found = run("embed", tmp_path / "run", tmp_path / "clips", "-o", tmp_path / "f.npz")
    assert found.exit_code == 0, found.output
    assert np.load(tmp_path / "f.npz")["features"].shape == (12, 128)
    assert run(*arguments).exit_code == 2
    found = run(*arguments[:-4], "--out", tmp_path / "other", "--steps", 2, "--set", "frames=40")
    assert found.exit_code == 2
    assert "no clip is long enough for 40 frames" in found.output


def test_pictures_show_as_many_clips_as_there_are_and_each_at_most_twice():
    from withheld.evaluate.video_pictures import _various

    assert _various(np.zeros(13, int)).tolist() == [0, 12]
    assert np.repeat(np.arange(3), 9)[_various(np.repeat(np.arange(3), 9))].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(set(np.repeat(np.arange(20), 4)[_various(np.repeat(np.arange(20), 4))])) == 6
    assert _various(np.arange(3)).tolist() == [0, 1, 2]


def test_one_path_is_no_list_and_an_unread_clip_is_named(tmp_path):
    trunk, _ = open_video_trunk("vit-nano", size=16, frames=2)
    with pytest.raises(InputError, match=r"give a list of clips, not one: \['a.mp4'\]"):
        VideoEncoder(trunk, [0.1] * 3, [0.3] * 3).transform("a.mp4")
    (tmp_path / "old.wmv").write_bytes(b"a film of a kind that is not read")
    with pytest.raises(InputError, match=r"old\.wmv: ValueError: is not a video of a format that is read"):
        VideoEncoder(trunk, [0.1] * 3, [0.3] * 3).transform([str(tmp_path / "old.wmv")])
    image, _ = open_trunk("vit-nano", size=16, channels=3)
    encoder = ImageEncoder(image, [0.1] * 3, [0.3] * 3)
    with pytest.raises(InputError, match=r"give a list of images, not one: \['a.jpg'\]"):
        encoder.transform("a.jpg")
    with pytest.raises(InputError, match="an image is int: give paths"):
        encoder.transform([1, 2])
