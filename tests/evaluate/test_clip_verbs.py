"""What a user does with clips on the command line: look, make a classifier, label the rest, hand the encoder on."""

import csv

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from sprites import motion_classes
from withheld.cli import main
from withheld.data.describe_clips import describe_clips
from withheld.evaluate.export import export
from withheld.evaluate.parts import columns_of
from withheld.networks.video import open_video_trunk
from withheld.splits.video import ArrowOfTime, FrameOrder
from withheld.video_encoder import VideoEncoder

SPRITES = np.random.default_rng(0).integers(60, 255, (20, 8, 8), dtype=np.uint8)


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def written(path, clip, rate=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = clip.shape[1], clip.shape[2], "yuv420p"
        for image in clip:
            colored = np.repeat(image[..., None], 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(colored, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Twelve clips of two motions in folders, and a run on them."""
    folder = tmp_path_factory.mktemp("verbs")
    clips, labels = motion_classes(SPRITES, 36, frames=8, size=32)
    for i in np.flatnonzero(labels < 2):
        written(folder / "clips" / ("left", "right")[labels[i]] / f"{i}.mp4", clips[i])
    arguments = [
        "pretrain",
        "videomae",
        "--data",
        folder / "clips",
        "--out",
        folder / "run",
        "--steps",
        1,
        "--size",
        16,
    ]
    found = run(*arguments, "--set", "frames=4", "--set", "rate=0", "--batch-size", 8)
    assert found.exit_code == 0, found.output
    return folder


def test_clips_are_described(home, tmp_path):
    (tmp_path / "mixed").mkdir()
    written(tmp_path / "mixed" / "slow.mp4", np.zeros((9, 32, 48), np.uint8), rate=5)
    written(tmp_path / "mixed" / "fast.mp4", np.zeros((9, 64, 64), np.uint8), rate=60)
    (tmp_path / "mixed" / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "mixed" / "old.wmv").write_bytes(b"a video of a kind that is not read")
    said = describe_clips(str(tmp_path / "mixed"))
    told = {name: value for name, value in said if name != "note"}
    assert told["items"] == "3"
    assert told["frames"].startswith("9 to 9")
    assert told["rates"].startswith("5 to 60")
    assert "48x32 (1)" in told["sizes"]
    assert "64x64 (1)" in told["sizes"]
    notes = " ".join(value for name, value in said if name == "note")
    assert "broken.mp4" in notes
    assert "videos beside these (1 with .wmv) are of kinds that are not read here" in notes
    assert "sampled at that" in notes
    assert "mixed" in notes


def test_check_says_what_to_run(home):
    found = run("check", home / "clips", "--labelled")
    assert found.exit_code == 0, found.output
    assert "clips, folder" in found.output
    assert "2; 12 clips have labels" in found.output
    assert "withheld pretrain videomae" in found.output


@pytest.mark.parametrize("method", ["videomae", "frame_order", "arrow_of_time", "next_frame"])
def test_show_draws_what_is_hidden(home, tmp_path, method):
    arguments = ["--set", "frames=6", "--size", 16, "--items", 2, "-o", tmp_path / "drawn.png"]
    rate = [] if method == "next_frame" else ["--set", "rate=0"]
    found = run("show", method, home / "clips", *arguments, *rate)
    assert found.exit_code == 0, found.output
    assert (tmp_path / "drawn.png").stat().st_size > 1000


def test_what_is_asked_of_a_clip_is_said_in_words():
    clips = torch.rand(4, 6, 3, 8, 8)
    for split, words in (
        (FrameOrder(), {"in order", "not in order"}),
        (ArrowOfTime(see="frames"), {"forward", "backward"}),
    ):
        y = next(column for column in columns_of(split, clips, seed=1) if column.name == "y")
        assert set(y.answers) == words
        assert y.values.shape == (4,)


def test_show_draws_what_a_run_tells(home, tmp_path):
    found = run("show", "videomae", home / "clips", "--run", home / "run", "--items", 2, "-o", tmp_path / "told.png")
    assert found.exit_code == 0, found.output
    found = run("show", "next_frame", home / "clips", "--run", home / "run", "-o", tmp_path / "other.png")
    assert found.exit_code == 2
    assert "was trained with videomae" in found.output


def test_a_classifier_of_clips_labels_the_rest(home, tmp_path):
    found = run("finetune", home / "run", "--data", home / "clips", "--out", tmp_path / "model", "--steps", 2)
    assert found.exit_code == 0, found.output
    (home / "clips" / "broken.mp4").write_bytes(b"no clip")
    found = run("predict", tmp_path / "model", home / "clips", "-o", tmp_path / "labels.csv")
    suggested = run("suggest", home / "run", "--data", home / "clips", "-n", 4, "--out", tmp_path / "suggested")
    (home / "clips" / "broken.mp4").unlink()
    assert suggested.output.count("could not be read") == 1, suggested.output
    assert found.exit_code == 0, found.output
    assert "1 of 13 clips could not be read and was left out: 'broken.mp4' (ValueError: is not a video" in found.output
    with open(tmp_path / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert {row["label"] for row in rows} <= {"left", "right"}
    assert all(row["file"].endswith(".mp4") for row in rows)


def test_a_run_opens_with_transformers(home, tmp_path):
    from transformers import AutoModel

    found = run("export", home / "run", "--to", "hf", "-o", tmp_path / "hf")
    assert found.exit_code == 0, found.output
    encoder = VideoEncoder.opened(home / "run")
    t = torch.rand(1, 4, 3, 16, 16)
    again = AutoModel.from_pretrained(tmp_path / "hf").eval()
    encoder.eval()
    with torch.no_grad():
        torch.testing.assert_close(again(pixel_values=t).last_hidden_state, encoder.trunk(t).tokens)


@pytest.mark.parametrize(
    "preset", [pytest.param(preset, marks=pytest.mark.slow) for preset in ("vit-nano", "videomae-nano")]
)
def test_one_onnx_file_takes_clips_of_any_size(tmp_path, preset):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    trunk, _ = open_video_trunk(preset, size=16, frames=4)
    encoder = VideoEncoder(trunk, [0.4] * 3, [0.3] * 3).eval()
    path = export(encoder, tmp_path / "clips.onnx", "onnx")
    clips = np.random.default_rng(1).integers(0, 256, (2, 4, 3, 20, 40), dtype=np.uint8)
    pooled, _ = onnxruntime.InferenceSession(str(path)).run(None, {"clips": clips})
    with torch.no_grad():
        assert pooled == pytest.approx(encoder(torch.from_numpy(clips)).pooled.numpy(), abs=1e-4)
