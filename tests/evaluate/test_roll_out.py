"""How clips go on: many more frames than were learned, beside what came; and what is wrong is said."""

import shutil

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import withheld
from withheld.cli import main
from withheld.errors import InputError
from withheld.evaluate.frame_error import in_pixels
from withheld.evaluate.roll_out import RolledOut, film, roll_out
from withheld.run import open_run


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run on clips of 6 frames, 3 given; a clip of 12 frames of noise as a folder, a short one, and one as a video."""
    folder = tmp_path_factory.mktemp("roll_out")
    generator = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i in range(20):
        pixels = generator.integers(80, 255, (7, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((14, 14)).save(folder / "photos" / f"{i:02d}.png")
    for name, length in (("clip", 12), ("short", 2)):
        (folder / name).mkdir()
        for i in range(length):
            frame = generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(frame).save(folder / name / f"{i:02d}.png")
    with av.open(str(folder / "exact.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        for shade in (40, 120, 200):
            frame = np.full((32, 32, 3), shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    settings = {"frames": 6}
    moving = f"moving:{folder / 'photos'}"
    withheld.pretrain(
        "next_frame", moving, folder / "run", steps=2, size=16, batch_size=8, settings=settings, pictures=False
    )
    return folder


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_errors_are_those_of_the_frames_told_and_of_copies(home):
    (one,) = roll_out(home / "run", home / "clip", 20)
    frames = [np.asarray(Image.open(path)) for path in sorted((home / "clip").iterdir())]
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(one.given, pixels[:3])
    torch.testing.assert_close(one.true, pixels[3:])
    assert one.told.shape == (20, 3, 16, 16)
    ours, copied = one.errors()
    assert ours == pytest.approx((one.told[:9] - pixels[3:]).square().sum(dim=(1, 2, 3)).numpy() / 3, rel=1e-5)
    assert copied == pytest.approx((pixels[2] - pixels[3:]).square().sum(dim=(1, 2, 3)).numpy() / 3, rel=1e-5)


def test_what_is_told_is_the_networks(home):
    (one,) = roll_out(home / "run", home / "clip", 4)
    kept = open_run(home / "run")
    mean, std = (torch.tensor(kept.settings[name]).view(1, 1, 3, 1, 1) for name in ("mean", "std"))
    network = kept.objective().network.eval()
    with torch.no_grad():
        x = (one.given[None] - mean) / std
        first = network(x)
        second = network(first)  # three given, three told
    told = in_pixels(torch.cat([first, second], dim=1)[:, :4], kept.settings["mean"], kept.settings["std"])
    torch.testing.assert_close(one.told, told[0].clamp(0, 1))


def test_moving_clips_are_those_that_were_held_out(home):
    found = roll_out(home / "run", f"moving:{home / 'photos'}", 9, clips=2)
    assert [one.name for one in found] == ["moving:0", "moving:1"]
    assert all((len(one.given), len(one.told), len(one.true)) == (3, 9, 9) for one in found)
    assert not torch.equal(found[0].true, found[1].true)


def test_the_film_shows_given_then_true_and_told():
    given, told = torch.full((2, 3, 16, 16), 0.2), torch.full((3, 3, 16, 16), 0.8)
    one = RolledOut("clip", given, told, torch.full((1, 3, 16, 16), 0.4), 10.0)
    pictures = [np.asarray(picture) for picture in film([one, one])]
    assert len(pictures) == 5
    assert len({picture.shape for picture in pictures}) == 1
    shades = [[round(255 * share) for share in shares] for shares in ((0.2,), (0.2,), (0.4, 0.8), (0.8,), (0.8,))]
    for picture, wanted in zip(pictures, shades, strict=True):
        counts = np.bincount(picture[..., 0].ravel(), minlength=256)
        assert all(counts[shade] >= 2 * 96 * 96 for shade in wanted)
    assert np.bincount(pictures[0][..., 0].ravel(), minlength=256)[51] >= 4 * 96 * 96  # given stands in both places


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_the_command(home, tmp_path, ending):
    out = tmp_path / "new" / f"on.{ending}"
    result = run("generate", home / "run", "--data", home / "clip", "--frames", 15, "-o", out)
    assert result.exit_code == 0, result.output
    assert "copying the last" in result.output
    assert "Mean of 9 frames" in result.output
    if ending == "gif":
        with Image.open(out) as picture:
            assert picture.n_frames == 18
    else:
        with av.open(str(out)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 18


def test_a_clip_that_ends_where_the_run_begins_has_no_errors(home, tmp_path):
    result = run("generate", home / "run", "--data", home / "exact.mp4", "-o", tmp_path / "on.gif", "--frames", 2)
    assert result.exit_code == 0, result.output
    assert "nothing to compare with" in result.output
    with Image.open(tmp_path / "on.gif") as picture:
        assert picture.n_frames == 5


def test_what_is_wrong_is_said(home, tmp_path):
    def told(*words):
        result = run("generate", home / "run", *words)
        assert result.exit_code == 2, result.output
        return result.output

    said = told("--data", home / "short", "-o", tmp_path / "a.gif")
    assert "2 frames" in said
    assert "given 3" in said
    assert "ends in .mp4, .mkv, .gif" in told("--data", home / "clip", "-o", tmp_path / "a.png")
    assert "is the clip itself" in told("--data", home / "exact.mp4", "-o", home / "exact.mp4")
    assert "give one of them" in told("--data", home / "clip", "--prompt", "once")
    assert "with --data" in told("-o", tmp_path / "a.gif")
    assert "--data" in told()
    assert not list(tmp_path.iterdir())


def test_a_clip_that_cannot_be_read_is_named_with_the_reason(home, tmp_path):
    shutil.copytree(home / "clip", tmp_path / "clips" / "whole")
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"no clip")
    heard: list[dict] = []
    assert len(roll_out(home / "run", tmp_path / "clips", 4, listen=heard.append)) == 1
    (note,) = [event["text"] for event in heard if event["kind"] == "note"]
    assert note.startswith("1 of 2 clips could not be read and was left out: 'broken.mp4' (ValueError: is not a video")


def test_images_read_as_one_clip_are_said(home):
    """Photographs of one size look like frames; `predict` and others say so, too."""
    heard = []
    roll_out(home / "run", home / "clip", 2, listen=heard.append)
    (note,) = [event["text"] for event in heard if event["kind"] == "note"]
    assert "read as the frames of one clip, clip; for photographs" in note
    heard.clear()
    roll_out(home / "run", f"moving:{home / 'photos'}", 2, listen=heard.append)
    assert not [event for event in heard if event["kind"] == "note"]


def test_a_run_of_another_method(home):
    withheld.pretrain(
        "videomae", f"moving:{home / 'photos'}", home / "other", steps=1, size=16, batch_size=8,
        settings={"frames": 4, "rate": 0.0}, pictures=False,
    )  # fmt: skip
    with pytest.raises(InputError, match="tells no frames to come; one of next_frame does"):
        roll_out(home / "other", home / "clip", 3)
