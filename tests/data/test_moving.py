"""Clips made of images: they are what their numbers say, and those held out have other sprites."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp

from withheld.data.clip import decode_clip
from withheld.data.moving import HELD, KINDS, LEARN, MovingItems, drawn, is_moving, open_moving, scale_of
from withheld.data.synthetic import MOTIONS, moved
from withheld.data.video import open_videos
from withheld.errors import InputError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WITHHELD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path):
    """Twenty images whose lightness is their number, so that sprites are known again."""
    (tmp_path / "photos").mkdir()
    for i in range(20):
        Image.new("RGB", (14, 14), (60 + 9 * i,) * 3).save(tmp_path / "photos" / f"{i:02d}.png")
    return tmp_path / "photos"


def test_what_is_meant():
    assert all(is_moving(f"{kind}:photos/") for kind in KINDS)
    assert not any(is_moving(other) for other in ("photos/", "hf:moving", "moving", np.zeros(3)))


def test_every_sprite_is_where_it_should_be_and_the_lighter_one_in_front():
    pictures = torch.tensor([50, 90], dtype=torch.uint8).view(1, 2, 1, 1, 1).expand(1, 2, 1, 2, 2)
    places = torch.tensor([[[[0, 0], [1, 1]], [[3, 2], [2, 1]]]])  # two sprites, two frames, x and y
    first, second = drawn(pictures, places, 5)[0, :, 0]
    assert first[0:2, 0:2].eq(50).all()
    assert first[2:4, 3:5].eq(90).all()
    assert first.bool().sum() == 8
    assert second[1:3, 1:2].eq(50).all()
    assert second[1:3, 2:4].eq(90).all()
    assert second.bool().sum() == 6


def test_a_clip_is_a_function_of_its_number_and_held_out_sprites_are_others(photos):
    clips = open_moving(f"moving:{photos}", side=32, frames=6)
    one, again = clips.batch(np.array([3, 4])), clips.batch(np.array([4, 3]))
    assert one.shape == (2, 6, 3, 32, 32)
    assert one.dtype == torch.uint8
    assert torch.equal(one, again.flip(0))
    assert not torch.equal(one[0], one[1])
    learned, held = (set(clips.batch(np.arange(60), part).unique().tolist()) - {0} for part in (LEARN, HELD))
    assert len(learned) == 18
    assert len(held) == 2
    assert not learned & held


def test_two_sprites_move_a_tenth_of_their_room_a_frame(photos):
    clips = open_moving(f"moving:{photos}", side=64, frames=12)
    _, ways = clips._way(LEARN, 0)
    room = 64 - clips.sprites[LEARN].shape[-1]
    assert clips.sprites[LEARN].shape[-1] == 28
    assert ways.shape == (2, 12, 2)
    assert ways.min() >= 0
    assert ways.max() <= room
    steps = np.hypot(*np.diff(ways, axis=1).transpose(2, 0, 1))
    assert np.median(steps) == pytest.approx(0.1 * room, abs=0.8)


def test_items_are_brought_to_mean_0_and_deviation_1(photos):
    clips = open_moving(f"falling:{photos}", side=32, frames=6)
    mean, std = scale_of(clips)
    items = MovingItems(clips, LEARN, mean, std)
    t = items.batch(np.arange(64), "cpu")
    assert float(t.mean()) == pytest.approx(0, abs=0.02)
    assert float(t.std()) == pytest.approx(1, abs=0.02)
    assert items.names(np.array([7])) == ["falling:7"]
    assert items.owners(np.array([7])).tolist() == [7]


def test_frames_at_a_lower_rate_are_further_apart(photos):
    every, second = (open_moving(f"moving:{photos}", 32, frames, rate) for frames, rate in ((9, 0.0), (5, 12.5)))
    assert torch.equal(every.batch(np.array([1]))[:, ::2], second.batch(np.array([1])))


def test_a_list_of_clips_with_their_motion_as_labels(photos):
    source = open_videos(f"motions:{photos}", True)
    assert source.classes == list(MOTIONS)
    assert np.bincount(source.labels).tolist() == [200] * 6
    assert np.bincount(source.labels[source.parts == "test"]).tolist() == [20] * 6
    place, clip = next(source.raw(np.array([54])))
    assert place == 54
    assert clip.shape == (20, 64, 64, 3)
    with pytest.raises(InputError, match="only motions:PATH has labels"):
        open_videos(f"moving:{photos}", True)


def test_what_is_wrong_is_said(tmp_path, photos):
    with pytest.raises(InputError, match="give what holds the images that move"):
        open_moving("moving:")
    with pytest.raises(InputError, match="no file or folder"):
        open_moving(f"moving:{tmp_path}/none")
    with pytest.raises(InputError, match="ten or more are needed"):
        open_moving(f"moving:{photos / '00.png'}")


@pytest.mark.parametrize("frames", [10, 19, 20])
def test_where_a_sprite_is_in_the_middle_of_a_clip_says_nothing_of_its_motion(frames):
    room, generator = 36.0, np.random.default_rng(0)
    paths = {motion: np.stack([moved(generator, frames, room, motion) for _ in range(400)]) for motion in MOTIONS}
    middles = {motion: (path[:, (frames - 1) // 2] + path[:, frames // 2]) / 2 for motion, path in paths.items()}
    for motion, path in paths.items():
        assert path.min() >= 0
        assert path.max() <= room
        for axis in (0, 1):
            others = np.concatenate([other[:, axis] for name, other in middles.items() if name != motion])
            assert ks_2samp(middles[motion][:, axis], others).pvalue > 1e-3, (motion, axis)
    went = {motion: path[:, -1] - path[:, 0] for motion, path in paths.items()}
    assert (went["left"][:, 0] < 0).all()
    assert (went["down"][:, 1] > 0).all()
    drop = np.diff(paths["fall"][:, : frames // 2, 1], axis=1)
    np.testing.assert_allclose(np.diff(drop, axis=1), 2 * 0.25 * room / ((frames - 1) / 2) ** 2, rtol=1e-6)


def test_what_is_black_around_a_sprite_is_not_cut_off(photos):
    """The box around its way, made a square, would tell the axis of its motion from any frame."""
    source = open_videos(f"motions:{photos}", True)
    clips = open_moving(f"motions:{photos}")
    for place, raw in source.raw(np.arange(6)):
        told = decode_clip(raw, clips.side).frames
        np.testing.assert_array_equal(told, clips.batch(np.array([place]), LEARN)[0].numpy())
