"""Trunks of clips against transformers' own, and what is kept of them."""

import numpy as np
import pytest
import torch
from transformers import AutoModel

from withheld.encoder import Encoder
from withheld.errors import InputError
from withheld.networks.image import sin_cos_positions
from withheld.networks.video import open_video_trunk
from withheld.splits.video import MaskTubes, tubes, untubes
from withheld.video_encoder import VideoEncoder


def clips(count=2, frames=4, size=32):
    return torch.randn(count, frames, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_visible_tokens_are_those_of_transformers():
    trunk, _ = open_video_trunk("videomae-nano", size=32, frames=4)
    split = MaskTubes(8, 2, 0.75).fitted(clips())
    pair = split(clips())
    mask = torch.ones(2, 32, dtype=torch.bool).scatter_(1, pair.x["at"], False)
    with torch.no_grad():
        ours = trunk.visible(pair.x["patches"], pair.x["at"])
        theirs = trunk.model(pixel_values=clips(), bool_masked_pos=mask).last_hidden_state
    order = pair.x["at"].argsort(1)[..., None].expand_as(ours)
    torch.testing.assert_close(ours.gather(1, order), theirs)


def test_a_tube_is_hidden_in_all_frames():
    split = MaskTubes(8, 2, 0.75).fitted(clips())
    hidden = split(clips()).x["hidden"]
    places = hidden.view(2, 2, -1)  # two tubelets of 16 places
    assert torch.equal(places[:, 0], places[:, 1] - 16)


def test_tubes_and_back():
    t = clips(frames=6)
    assert torch.equal(untubes(tubes(t, 2, 8), 2, 8, (3, 4, 4)), t)


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(InputError, match="5 frames"):
        MaskTubes(8, 2).fitted(clips(frames=5))
    trunk, _ = open_video_trunk("vit-nano", size=32, frames=4)
    with pytest.raises(InputError, match="videomae-nano"):
        trunk.visible(torch.zeros(1, 1, 1), torch.zeros(1, 1, dtype=torch.long))


def test_frame_by_frame_is_the_trunk_of_images_on_every_frame():
    trunk, _ = open_video_trunk("vit-nano", size=32, frames=4)
    found = trunk(clips(), layers=True)
    single = trunk.image(clips()[:, 2])
    torch.testing.assert_close(found.tokens.view(2, 4, -1, 128)[:, 2], single.tokens)
    assert found.grid == (4, 8, 8)
    assert len(found.layers) == 5


@pytest.mark.parametrize("name", ["videomae-nano", "vit-nano"])
def test_kept_and_opened_it_says_the_same(tmp_path, name):
    trunk, _ = open_video_trunk(name, size=32, frames=4, seed=3)
    encoder = VideoEncoder(trunk, [0.4] * 3, [0.2] * 3, rate=12.5, name="x").eval()
    encoder.save(tmp_path / "e")
    again = Encoder.open(tmp_path / "e")
    clip = np.random.default_rng(0).integers(0, 255, (30, 40, 48, 3), dtype=np.uint8)
    first, second = encoder.transform([clip, clip[::-1].copy()]), again.transform([clip, clip[::-1].copy()])
    assert first.shape == (2, 128)
    assert np.array_equal(first, second)
    assert again.rate == 12.5
    reopened = AutoModel.from_pretrained(tmp_path / "e")
    assert sum(p.numel() for p in reopened.parameters()) >= sum(p.numel() for p in trunk.model.parameters())
    assert not np.array_equal(encoder.fresh(1).eval().transform([clip]), first[:1])


def test_positions_in_the_plane_are_as_before_and_in_time_all_different():
    plane = sin_cos_positions((2, 3), 8)
    frequency = 1 / 10000 ** (torch.arange(2, dtype=torch.float64) / 2)
    angles = [torch.tensor([place * f for f in frequency]) for place in (2.0, 1.0)]
    expected = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)])
    torch.testing.assert_close(plane[5], expected.float())
    space = sin_cos_positions((2, 3, 4), 64)
    assert space.shape == (24, 64)
    assert len(torch.unique(space, dim=0)) == 24


def test_a_short_clip_repeats_its_last_frame():
    trunk, _ = open_video_trunk("vit-nano", size=32, frames=4)
    encoder = VideoEncoder(trunk, [0.4] * 3, [0.2] * 3)
    assert encoder.windows(2, 25.0).tolist() == [[0, 1, 1, 1]]
    assert encoder.windows(10, 25.0)[-1].tolist() == [6, 7, 8, 9]
