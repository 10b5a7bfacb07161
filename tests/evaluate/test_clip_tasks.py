"""What a run on clips was trained for, measured on clips it has not seen; and the shortcut tests of the methods of clips."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import withheld
from withheld.cli import main
from withheld.errors import InputError
from withheld.evaluate.clip_tasks import answered, chance_of, evaluate_clips, told_frames
from withheld.evaluate.frame_error import MEASURES, beside, frame_errors, in_pixels, similarity_map
from withheld.evaluate.held_clips import HeldClips
from withheld.evaluate.shortcuts import SAME, probe_shortcuts
from withheld.methods.frame_order import still_clips
from withheld.motion import camera_motion, moving_places, pairwise_differences, told_from
from withheld.splits.video import ArrowOfTime, DriftingBar, FrameOrder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip_tasks")
    (folder / "photos").mkdir()
    for i in range(20):
        pixels = np.random.default_rng(i).integers(80, 255, (7, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((14, 14)).save(folder / "photos" / f"{i:02d}.png")
    return folder


def trained(home, method, **settings):
    out = home / f"{method}-run"
    if not (out / "run.json").is_file():
        withheld.pretrain(
            method, f"moving:{home / 'photos'}", out, steps=2, size=16, batch_size=8, settings=settings, pictures=False
        )
    return out


class TestFrames:
    def test_wide_intervals_are_written_out(self):
        """± 1.7e+02 stood there."""
        held = SimpleNamespace(mean_of=lambda values: (float(values.mean()), 171.3), said="10 windows of 2 clips")
        of = {measure: np.full(2, 0.20551) for measure in MEASURES}
        of |= {"MSE, sum": np.full(2, 12_240.4), "by frame": np.ones((2, 3))}
        table = told_frames(dict.fromkeys(("this run", "copy the last frame", "mean frame"), of), held, 64)
        assert table.rows[0][:3] == ["this run", "12,240 ± 170", "0.2055"]

    def test_similarity_is_scikit_images(self):
        from skimage.metrics import structural_similarity

        one, other = torch.rand(2, 24, 30, generator=torch.Generator().manual_seed(0))
        other = 0.7 * one + 0.3 * other
        options = {
            "gaussian_weights": True,
            "sigma": 1.5,
            "use_sample_covariance": False,
            "data_range": 1.0,
            "full": True,
        }
        _, whole = structural_similarity(one.numpy(), other.numpy(), **options)
        assert similarity_map(one, other).numpy() == pytest.approx(whole[5:-5, 5:-5], abs=1e-5)
        assert float(similarity_map(one, one).min()) == pytest.approx(1.0)

    def test_both_conventions_by_hand(self):
        true = torch.zeros(1, 2, 3, 16, 16)
        told = true.clone()
        told[0, 0, :, 3, 4] = 0.5  # one pixel of the first frame, in every channel
        moving = torch.zeros(1, 2, 16, 16, dtype=torch.bool)
        moving[0, 0, 3, 4:6] = True
        found = frame_errors(told, true, moving)
        assert found["by frame"].tolist() == [[pytest.approx(0.25), 0.0]]
        assert float(found["MSE, sum"]) == pytest.approx(0.125)
        assert float(found["MSE x 1000"]) == pytest.approx(1000 * 0.125 / 256)
        assert float(found["moving MSE x 1000"]) == pytest.approx(125)  # half of two pixels, the other frame counts not
        assert float(found["PSNR"]) == pytest.approx((10 * np.log10(256 / 0.25) + 100) / 2, abs=1e-3)

    def test_what_is_told_is_clipped(self):
        true = torch.ones(1, 1, 3, 16, 16)
        assert float(frame_errors(true + 3, true, true[:, :, 0] > 0)["MSE, sum"]) == 0

    def test_copies_and_means(self):
        given = torch.arange(4.0).view(1, 4, 1, 1, 1).expand(1, 4, 1, 2, 2)
        told = beside(torch.zeros(1, 3, 1, 2, 2), given)
        assert [float(t.mean()) for t in told.values()] == [0.0, 3.0, 1.5]
        assert in_pixels(given, [0.5], [2.0])[0, 1, 0, 0, 0] == 2.5

    def test_where_it_moves(self):
        frames = torch.zeros(1, 2, 3, 20, 20)
        frames[0, 1, :, 10, 10] = 1.0
        here = moving_places(frames, frames[:, 0])
        assert not here[0, 0].any()
        assert here[0, 1].sum() == 49
        assert here[0, 1, 7:14, 7:14].all()


class TestMotion:
    def test_the_camera_is_measured_and_runs_the_other_way_in_the_mirror(self):
        y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
        shown = lambda dx, zoom: torch.sin(((x - 16) * zoom - dx) / 5) + torch.cos(((y - 16) * zoom) / 6)  # noqa: E731
        right = torch.stack([shown(0.6 * i, 1.0) for i in range(5)])[None, :, None]
        nearer = torch.stack([shown(0.0, 0.97**i) for i in range(5)])[None, :, None]
        moved, grown = camera_motion(right)[0], camera_motion(nearer)[0]
        assert float(moved[0]) == pytest.approx(0.3, abs=0.05)  # of pixels halved
        assert float(grown[1]) > 0.1
        assert float(grown[5]) > 0.1
        assert camera_motion(right.flip(1))[0] == pytest.approx(-moved, abs=1e-4)

    def test_differences_of_every_two_frames(self):
        frames = torch.tensor([0.0, 1.0, 3.0]).view(1, 3, 1, 1, 1)
        assert pairwise_differences(frames).exp()[0].tolist() == pytest.approx([1.0, 9.0, 4.0], abs=1e-4)

    def test_a_few_numbers_tell_what_can_be_told(self):
        generator = np.random.default_rng(0)
        seen, answers = generator.normal(size=(400, 2)), generator.integers(0, 2, 400)
        assert abs((told_from(seen[:200], answers[:200], seen[200:]) == answers[200:]).mean() - 0.5) < 0.12
        seen[:, 1] += 3 * answers
        assert (told_from(seen[:200], answers[:200], seen[200:]) == answers[200:]).mean() > 0.85
        assert told_from(seen[:2], np.ones(2, np.int64), seen[:3]).tolist() == [1, 1, 1]


class TestDriftingBar:
    def test_it_grows_and_is_cut_off(self):
        t = torch.rand(2, 8, 3, 32, 32) + 0.5
        barred = DriftingBar("drifting")(t)
        dark = t.amin(dim=(0, 1, 3, 4)).view(1, 1, 3, 1, 1)
        black = (barred == dark).all(dim=4).all(dim=2)[0].sum(dim=1)
        assert black.tolist() == sorted(black.tolist())
        assert black[0] == 4
        assert black[-1] == 8
        cut = DriftingBar("cut")(t)
        assert cut.shape == t.shape
        assert cut[:, :, :, 0] == pytest.approx(t[:, :, :, 0])  # what is left is stretched, nothing black remains
        assert float(cut[:, :, :, -1].min()) > float(t.amin()) - 1e-6

    def test_it_tells_the_direction(self):
        t = DriftingBar("drifting")(torch.rand(64, 8, 3, 16, 16))
        torch.manual_seed(0)
        x, y = ArrowOfTime()(t)
        darker = x["clip"].mean(dim=(1, 2, 3, 4)) < 0
        assert (darker.long() == y).all()

    def test_other_kinds_are_named(self):
        with pytest.raises(InputError, match="there are none, drifting and cut"):
            DriftingBar("sideways")


def test_frames_are_measured_on_the_command_line(home):
    run = trained(home, "next_frame", frames=6)
    found = CliRunner().invoke(main, ["evaluate", str(run), "--clips"])
    assert found.exit_code == 0, found.output
    assert "copy the last frame" in found.output
    assert "of moving:" in found.output
    line = [json.loads(text) for text in (run / "results.jsonl").read_text().splitlines()][-1]
    ours, copy = (line["numbers"][row] for row in ("this run", "copy the last frame"))
    assert ours["MSE, sum"] == pytest.approx(256 * ours["MSE x 1000"] / 1000)
    assert copy["MSE, sum"] > 0
    assert {"PSNR", "SSIM", "moving SSIM", "MSE, sum, frame 3"} <= set(ours)
    assert (run / "pictures" / "frames_moving-00.gif").is_file()
    page = (run / "report.html").read_text()
    assert "Frames to come" in page
    assert "data:image/webp" in page


def test_clips_that_all_agree_leave_something_open():
    owners = np.repeat(np.arange(10), 4)
    held = HeldClips(None, None, np.arange(40), owners, "40 windows", [0.5], [0.2], torch.device("cpu"))
    assert held.share_of(np.ones(40)) == (1.0, pytest.approx(3.841459 / 13.841459))  # 72.2 to 100 %, as Wilson's
    some = np.where(owners < 5, 1.0, 0.25)
    assert held.share_of(some) == held.mean_of(some)


@pytest.mark.parametrize(("method", "settings"), [("frame_order", {"frames": 6}), ("arrow_of_time", {"frames": 5})])
def test_answers_have_an_interval_over_clips_and_a_floor(home, method, settings):
    run = trained(home, method, rate=0.0, **settings)
    found = evaluate_clips(run, windows=40, results=run / "results.jsonl", pictures=run)
    ours = found.numbers["this run"]
    assert 0 <= ours["share"] <= 1
    assert ours["half"] > 0
    assert len(found.rows) == 3
    assert found.sentence.endswith(".")
    assert "40 windows of 40 clips" in found.sentence
    assert "that were held out" in found.sentence
    assert (run / "pictures" / "arrow-00.png").is_file() == (method == "arrow_of_time")


def test_colors_stand_beside_the_same_place(home):
    run = trained(home, "track_color", frames=4, rate=0.0)
    found = evaluate_clips(run, windows=8)
    assert [row[0] for row in found.rows] == ["this run", "same place, frame before", "commonest color"]


def test_a_shortcut_is_said_where_there_is_one():
    quarter = answered(
        (0.75, 0.01), (0.5, 0.05), "x", "is in order", "9 windows of 3 clips", chance_of(FrameOrder(0.25))
    )
    assert quarter.startswith("No more than chance"), (
        "three of four tuples are out of order: always saying no is right so often"
    )
    said = answered((0.9, 0.02), (0.8, 0.05), "differences of the three frames", "is in order", "9 windows of 3 clips")
    assert said.startswith("More than chance")
    assert "a shortcut solves this task" in said
    said = answered((0.52, 0.1), (0.5, 0.05), "the camera's motion", "runs forward or backward", "9 windows of 3 clips")
    assert said.startswith("No more than chance")
    assert "no more than chance" in said.split(";")[1]


def test_still_clips_are_asked_evenly_whatever_the_runs_share():
    """Who always says no is right half of the time there, and nothing is suspect."""
    torch.manual_seed(0)
    judge = SimpleNamespace(split=FrameOrder(0.25), network=lambda x: -torch.ones(len(x)))
    found = still_clips(judge, None, torch.zeros(600, 5, 1, 2, 2))["accuracy on still clips"]
    assert found == pytest.approx(0.5, abs=0.03)


def test_where_nothing_was_held_out_it_says_so(home, tmp_path):
    clips = np.random.default_rng(0).integers(0, 255, (4, 8, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "clips.npy", clips)
    out = tmp_path / "run"
    withheld.pretrain(
        "arrow_of_time",
        tmp_path / "clips.npy",
        out,
        steps=1,
        size=16,
        settings={"frames": 4, "rate": 0.0},
        pictures=False,
    )
    with pytest.raises(InputError, match="that none was held out"):
        evaluate_clips(out)
    assert "8 windows of 4 clips" not in evaluate_clips(out, f"moving:{home / 'photos'}", windows=9).sentence


def test_methods_that_are_judged_otherwise_say_how(home):
    run = trained(home, "videomae", frames=4, rate=0.0)
    with pytest.raises(InputError, match="--data LABELLED"):
        evaluate_clips(run)


@pytest.mark.parametrize(
    ("method", "settings", "rows"),
    [
        ("frame_order", {"frames": 6}, ["differences of the three frames", "still clips"]),
        ("arrow_of_time", {"frames": 5}, ["both directions", "the camera's motion", "evidence at the borders"]),
        ("track_color", {"frames": 4}, ["the same place", "where it points"]),
        ("next_frame", {"frames": 6}, ["copying", "blur"]),
    ],
)
def test_shortcuts_of_clips_are_measured(home, method, settings, rows, monkeypatch):
    monkeypatch.setattr("withheld.evaluate.shortcuts.LOOKED_AT", 24)
    run = trained(home, method, **({} if method == "next_frame" else {"rate": 0.0}), **settings)
    found = {reading.row: reading for reading in probe_shortcuts(run, steps=1)}
    assert {"the run", SAME, *rows} <= set(found)
    assert all(np.isfinite(value) for reading in found.values() for value in reading.measures.values())
    if method == "arrow_of_time":
        assert found["both directions"].measures["sum of logits"] < 1e-3
        assert "accuracy on the run's task" in found["a drifting black bar"].measures


def _street(folder, name, seed):
    """Frames of a fixed camera: one scene, in which another thing moves in each clip."""
    scene = np.kron(np.random.default_rng(0).integers(60, 190, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    rng = np.random.default_rng(seed)
    start, way = rng.integers(0, 24, 2), rng.integers(-2, 3, 2)
    (folder / name).mkdir(parents=True)
    for t in range(50):
        frame = scene.copy()
        y, x = (start + t * (way + (way == 0))) % 24
        frame[y : y + 8, x : x + 8] = 255 * (seed % 2)
        Image.fromarray(frame).save(folder / name / f"{t:02d}.png")


def test_other_clips_that_are_copies_of_learned_ones_are_named(tmp_path):
    """They were taken for unseen ones without a word."""
    for seed in range(4):
        _street(tmp_path / "learned", f"one{seed}", seed)
        _street(tmp_path / "fresh", f"two{seed}", 10 + seed)
    shutil.copytree(tmp_path / "fresh", tmp_path / "mixed")
    shutil.copytree(tmp_path / "learned" / "one2", tmp_path / "mixed" / "again")
    run = withheld.pretrain(
        "frame_order",
        tmp_path / "learned",
        tmp_path / "run",
        steps=2,
        size=32,
        batch_size=8,
        settings={"motion": 1.0},
        pictures=False,
    ).folder
    told = " ".join(evaluate_clips(run, tmp_path / "mixed", windows=20).notes)
    assert "1 of 5 clips is nearly one that the run learned from (such as 'again' and 'one2')" in told
    assert "the run learned from" not in " ".join(evaluate_clips(run, tmp_path / "fresh", windows=20).notes)
    shutil.rmtree(tmp_path / "learned")
    assert "the run learned from" not in " ".join(evaluate_clips(run, tmp_path / "mixed", windows=20).notes)
