"""The card that an encoder is kept with: what says how to feed it is there again, and a damaged one is named."""

from __future__ import annotations

import json

import pytest

from withheld.data.tokenizer import train_tokenizer
from withheld.encoder import Encoder
from withheld.errors import InputError
from withheld.image_encoder import ImageEncoder
from withheld.networks.open import open_trunk
from withheld.networks.text_open import open_text_trunk
from withheld.networks.video import open_video_trunk
from withheld.splits.color import HideColor
from withheld.text_encoder import TextEncoder
from withheld.video_encoder import VideoEncoder


def image() -> Encoder:
    trunk, _ = open_trunk("conv-nano", size=16, channels=3)
    return ImageEncoder(trunk, [0.1, 0.2, 0.3], [1, 2, 3], HideColor(3), "of images", flips=False)


def text() -> Encoder:
    tokenizer = train_tokenizer("word", ["a small text of a few words"] * 3, 20, True, 16)
    trunk, _ = open_text_trunk("lstm-small", vocabulary=len(tokenizer), length=16)
    return TextEncoder(trunk, tokenizer, "of texts", most=77)


def video() -> Encoder:
    trunk, _ = open_video_trunk("conv-nano", size=16, frames=4)
    return VideoEncoder(trunk, [0.1, 0.2, 0.3], [1.0, 2.0, 3.0], 12.5, name="of clips")


KEPT = {
    image: ("name", "mean", "std", "split", "flips", "scale", "augment", "size", "channels"),
    text: ("name", "most", "length"),
    video: ("name", "mean", "std", "split", "rate", "frames", "size"),
}


@pytest.mark.parametrize("made", KEPT, ids=lambda made: made.__name__)
def test_an_encoder_comes_back_as_it_was(made, tmp_path):
    encoder = made()
    again = Encoder.open(encoder.save(tmp_path / "encoder"))
    assert type(again) is type(encoder)
    for name in KEPT[made]:
        assert getattr(again, name) == getattr(encoder, name), name


@pytest.mark.parametrize(
    ("made", "change"),
    [
        (image, {"mean": 3}), (image, "flips"), (text, {"most": "many"}), (text, "name"), (video, "frames"),
        (video, {"rate": "slow"}), (video, "pooling"),
    ],
)  # fmt: skip
def test_a_damaged_card_is_named(made, change, tmp_path):
    """A part of another type, and one that is not there."""
    path = made().save(tmp_path / "encoder") / "withheld.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(change, dict):
        card |= change
    else:
        del card[change]
    path.write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(InputError, match=r"withheld\.json is damaged"):
        Encoder.open(tmp_path / "encoder")


@pytest.mark.parametrize("made", [image, text, video], ids=lambda made: made.__name__)
@pytest.mark.parametrize("written", ["", "{", "[]", "3"])
def test_a_card_that_is_none_is_named(made, written, tmp_path):
    path = made().save(tmp_path / "encoder") / "withheld.json"
    path.write_text(written, encoding="utf-8")
    with pytest.raises(InputError, match=r"withheld\.json is damaged"):
        Encoder.open(tmp_path / "encoder")


def test_a_card_of_before_views_were_kept_opens(tmp_path):
    path = image().save(tmp_path / "encoder") / "withheld.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    del card["augment"]
    path.write_text(json.dumps(card), encoding="utf-8")
    assert Encoder.open(tmp_path / "encoder").augment is None
