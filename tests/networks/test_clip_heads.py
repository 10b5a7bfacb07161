"""Splits and heads of clips against naive loops; time-reversible motion cannot be told apart."""

import numpy as np
import pytest
import torch

from sprites import falling_sprites, moving_sprites
from withheld.color import lightness
from withheld.data.clips import ClipItems, find_windows, prepare_clips
from withheld.data.video import open_videos
from withheld.errors import InputError
from withheld.learn.gradient import train
from withheld.losses.prediction import ColorCopied, FrameError
from withheld.methods.arrow_of_time import arrow_of_time
from withheld.networks.clip_heads import ArrowJudge, ColorPointer
from withheld.networks.next_frame import FramePredictor
from withheld.networks.video import open_video_trunk
from withheld.splits.video import ArrowOfTime, FrameOrder, NextFrames, TrackColor
from withheld.types import Features


def clips(count=4, frames=6, size=16):
    return torch.rand(count, frames, 3, size, size, generator=torch.Generator().manual_seed(1))


class TestFrameOrder:
    def test_tuples_are_in_order_where_it_says_so(self):
        t = torch.arange(12.0).view(1, 12, 1, 1, 1).expand(400, -1, 1, 1, 1)  # a frame shows its number
        torch.manual_seed(0)
        x, y = FrameOrder()(t)
        first, middle, last = x.flatten(2)[..., 0].unbind(1)
        between = ((middle > first) & (middle < last)) | ((middle < first) & (middle > last))
        assert torch.equal(between.long(), y)
        assert 0.4 < y.float().mean() < 0.6
        assert 0.4 < (last > first).float().mean() < 0.6  # also backward

    def test_short_clips_are_named(self):
        with pytest.raises(InputError, match="five at least"):
            FrameOrder()(clips(frames=4))


def test_half_precision_around_it_points_to_the_same_places_and_colors():
    class Tokens(torch.nn.Module):
        """Frames are tokens already."""

        def frame(self, frames):
            return Features(frames.mean(dim=(1, 2, 3)), frames.flatten(1, 2))

    torch.manual_seed(0)
    frames = torch.randn(2, 3, 4, 4, 16)
    pointer = ColorPointer(Tokens(), 5, temperature=0.07)
    x = {"frames": frames, "colors": torch.randint(5, (2, 2, 4, 4))}
    with torch.autocast("cpu", torch.bfloat16):  # as the loop computes on a GPU
        found = pointer(x)
    assert torch.equal(found, pointer(x))


class TestArrow:
    def test_the_mirror_is_the_other_direction(self):
        torch.manual_seed(0)
        x, y = ArrowOfTime("frames")(clips())
        forward = torch.where(y.view(-1, 1, 1, 1, 1) == 1, x["clip"], x["mirror"])
        assert torch.equal(forward, clips())
        torch.manual_seed(0)
        x, y = ArrowOfTime("differences")(clips())
        forward = torch.where(y.view(-1, 1, 1, 1, 1) == 1, x["clip"], x["mirror"])
        torch.testing.assert_close(forward, clips()[:, 1:] - clips()[:, :-1])

    def test_mirrored_the_logit_changes_its_sign(self):
        trunk, _ = open_video_trunk("vit-nano", size=16, frames=6)
        judge = ArrowJudge(trunk).eval()
        x, _ = ArrowOfTime()(clips())
        with torch.no_grad():
            there, back = judge(x), judge({"clip": x["mirror"], "mirror": x["clip"]})
        torch.testing.assert_close(there, -back)
        assert judge.evidence(x["clip"]).shape == (4, 3, 4, 4)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "low", "high"), [(moving_sprites, 0.35, 0.65), (falling_sprites, 0.9, 1.0)])
def test_time_has_a_direction_only_where_it_has_one(make, low, high, tmp_path, monkeypatch):
    """Bouncing without loss looks the same backward: 50 %. Falling with loss does not: above 90 %."""
    monkeypatch.setenv("WITHHELD_CACHE", str(tmp_path))
    sprites = np.random.default_rng(0).integers(120, 255, (40, 10, 10), dtype=np.uint8)
    made = [make(sprites, count, frames=8, size=32, each=1, seed=seed) for count, seed in ((600, 0), (200, 1))]
    torch.manual_seed(0)
    trunk, _ = open_video_trunk("resnet-dense", size=32, frames=8)
    objective, recipe = arrow_of_time(trunk)
    items = []
    for data in made:
        found = prepare_clips(open_videos(np.repeat(data[..., None], 3, axis=-1)), 32, bars=False)
        items.append(ClipItems(found, find_windows(found, 8, 0), 8, [0.1] * 3, [0.3] * 3))
    train(objective, items[0], recipe.change(base_learning_rate=1.6e-2), steps=300)
    objective.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        x, y = objective.split(items[1].batch(np.arange(200), "cpu"))
        accuracy = ((objective.network(x) > 0) == (y == 1)).float().mean()
    assert low <= accuracy <= high


class TestTrackColor:
    def test_colors_are_copied_from_where_it_points(self):
        trunk, _ = open_video_trunk("resnet-dense", size=32, frames=4)
        split = TrackColor(side=4, clusters=5, jitter=0.0).fitted(clips(6, 4, 32))
        pair = split(clips(2, 4, 32))
        pointer = ColorPointer(trunk, 5).eval()
        with torch.no_grad():
            told = pointer(pair.x).exp()
            pointed = pointer.pointing(pair.x["frames"])
        assert told.shape == (2, 5, 4, 4)
        torch.testing.assert_close(told.sum(dim=1), torch.ones(2, 4, 4), rtol=1e-3, atol=1e-3)
        colors = pair.x["colors"].flatten(1)
        naive = [sum(float(pointed[1, 7, j]) for j in range(48) if colors[1, j] == k) for k in range(5)]
        np.testing.assert_allclose(told[1, :, 1, 3].numpy(), naive, atol=1e-5)

    def test_the_network_sees_no_color(self):
        split = TrackColor(side=4, jitter=0.0).fitted(clips(6, 4, 32))
        grey = clips(2, 4, 32).mean(dim=2, keepdim=True).expand(-1, -1, 3, -1, -1)
        assert torch.equal(split.full(grey)[:, :, 0], split.full(grey)[:, :, 1])
        torch.manual_seed(0)
        pair = split(clips(2, 4, 32))
        assert pair.x["frames"].shape == (2, 4, 3, 32, 32)
        assert torch.equal(pair.x["frames"][:, :, 0], pair.x["frames"][:, :, 2])

    def test_what_it_sees_is_drawn_in_color_and_the_last_frame_grey(self):
        dark = 0.3 * clips(6, 4, 32)  # a lightness below the middle of the scale is not drawn black
        split = TrackColor(side=4, clusters=5, jitter=0.0).fitted(dark)
        torch.manual_seed(0)
        pair = split(dark[:2])
        drawn = split.drawn(pair)
        assert drawn.x.shape == (2, 4, 3, 32, 32)
        assert drawn.y.shape == (2, 1, 3, 32, 32)
        light = lightness(drawn.x[:, 3])
        torch.testing.assert_close(light, pair.x["frames"][:, 3, :1] * 25 + 50, atol=0.5, rtol=0)
        differs = (drawn.x.amax(dim=2) - drawn.x.amin(dim=2)).flatten(2).amax(dim=2)
        assert (differs[:, 3] < 0.01).all()
        assert (differs[:, :3] > 0.01).all()

    def test_clips_without_color_are_said(self):
        with pytest.raises(InputError, match="no color"):
            TrackColor(side=4).fitted(torch.full((2, 4, 3, 32, 32), 0.5))

    def test_weights_have_mean_one(self):
        y = torch.randint(3, (2, 4, 4))
        even = torch.full((2, 3, 4, 4), np.log(1 / 3), dtype=torch.float32)
        for balance in (0.0, 0.5, 1.0):
            assert float(ColorCopied(balance)(even, y)) == pytest.approx(np.log(3), rel=1e-5)


class TestNextFrame:
    def test_split_and_back(self):
        pair = NextFrames(2)(clips())
        assert pair.x.shape[1] == 2
        assert torch.equal(NextFrames(2).merge(pair), clips())
        with pytest.raises(InputError, match="given=9"):
            NextFrames(9)(clips())

    @pytest.mark.parametrize("kind", ["convlstm", "simvp"])
    def test_shapes_and_gradients(self, kind):
        trunk, _ = open_video_trunk("resnet-fine", size=16, frames=6)
        network = FramePredictor(trunk, 3, kind, width=16, layers=1)
        told = network(clips()[:, :3])
        assert told.shape == (4, 3, 3, 16, 16)
        told.sum().backward()
        assert all(p.grad is not None for p in network.parameters() if p.requires_grad)

    def test_convlstm_rolls_on(self):
        trunk, _ = open_video_trunk("resnet-fine", size=16, frames=6)
        network = FramePredictor(trunk, 3, "convlstm", width=16, layers=1).eval()
        with torch.no_grad():
            short, long = network(clips()[:, :3]), network(clips()[:, :3], told=7)
        torch.testing.assert_close(long[:, :3], short)
        assert long.shape[1] == 7

    def test_simvp_is_given_its_own_frames(self):
        trunk, _ = open_video_trunk("resnet-fine", size=16, frames=5)
        network = FramePredictor(trunk, 2, "simvp", width=16, layers=1).eval()
        x = clips()[:, :3]
        with torch.no_grad():
            long, first = network(x, told=5), network(x)
            second = network(torch.cat([x[:, 2:], first], dim=1))
            third = network(torch.cat([first[:, 1:], second], dim=1))
        torch.testing.assert_close(long, torch.cat([first, second, third], dim=1)[:, :5])
        assert torch.equal(network(x, told=1), first[:, :1])

    def test_gradient_difference_by_hand(self):
        a, b = clips()[:, :1], clips()[:, 1:2]
        terms = FrameError(2, 1.0)(a, b)
        down = ((a[..., 1:, :] - a[..., :-1, :]).abs() - (b[..., 1:, :] - b[..., :-1, :]).abs()) ** 2
        right = ((a[..., 1:] - a[..., :-1]).abs() - (b[..., 1:] - b[..., :-1]).abs()) ** 2
        assert float(terms["edges"]) == pytest.approx(float(down.mean() + right.mean()), rel=1e-5)
        assert float(terms["pixels"]) == pytest.approx(float(((a - b) ** 2).mean()), rel=1e-5)
