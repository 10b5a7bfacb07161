"""Guessed labels: which are taken, that none is of an item that is held out, and that a classifier learns from them."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_vit import tiny_encoder

from withheld.errors import InputError
from withheld.evaluate.classifier import Classifier
from withheld.evaluate.features import features
from withheld.evaluate.finetune import Known, finetune
from withheld.evaluate.guesses import GIVEN, surest, with_guesses
from withheld.evaluate.judged import judged
from withheld.evaluate.self_training import SelfTraining


def shades(n: int, seed: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Images of shades, darker and lighter."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return (generator.integers(0, 60, (n, 1, 8, 8)) + 90 * labels[:, None, None, None]).astype(np.uint8), labels


def test_the_surest_share_of_each_class_by_its_own_size():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]])
    assert surest(p, 0.5).tolist() == [0, 2, 4]
    assert surest(p, 1.0).tolist() == [0, 1, 2, 3, 4]


def test_items_that_have_a_label_are_never_guessed():
    encoder = tiny_encoder()
    kind = judged(encoder)
    images, labels = shades(40, 0)
    known = Known(images, labels, ["dark", "light"], None)
    more, truth = shades(60, 1)
    heard = []
    items, answers, guessed = with_guesses(
        kind, images[:20], labels[:20], 2, known, np.concatenate([images, more]), 0, heard.append
    )
    assert guessed == 48  # 80 % of what is new
    taken = {image.tobytes() for image in items}
    assert not taken & {image.tobytes() for image in images[20:]}, "held out"
    truly = {image.tobytes(): label for image, label in zip(more, truth, strict=True)}
    pairs = [
        (label, truly[image.tobytes()]) for image, label in zip(items, answers, strict=True) if image.tobytes() in truly
    ]
    assert len(pairs) == guessed
    assert np.mean([guess == true for guess, true in pairs]) > 0.9
    assert (len(items) - guessed) / len(items) == pytest.approx(GIVEN, abs=0.12), "people's labels are repeated"
    assert any("48 of 60 unlabelled items" in event.get("text", "") for event in heard)


def test_nothing_new_is_said():
    encoder = tiny_encoder()
    images, labels = shades(20, 0)
    known = Known(images, labels, ["dark", "light"], None)
    with pytest.raises(InputError, match="has a label already"):
        with_guesses(judged(encoder), images, labels, 2, known, images, 0, lambda event: None)


def test_where_labels_alone_tell_more_nothing_is_guessed(monkeypatch):
    """As where the rest is of other classes: it would be learned under wrong names."""
    monkeypatch.setattr(SelfTraining, "_choose", lambda self, *a: "alone")
    images, labels = shades(20, 0)
    known, heard = Known(images, labels, ["dark", "light"], None), []
    items, answers, guessed = with_guesses(
        judged(tiny_encoder()), images, labels, 2, known, shades(30, 1)[0], 0, heard.append
    )
    assert guessed == 0
    np.testing.assert_array_equal(items, images)
    np.testing.assert_array_equal(answers, labels)
    assert any("labels alone tell more" in event.get("text", "") for event in heard)


def test_a_model_learns_from_guesses_and_says_how_many(tmp_path):
    images, labels = shades(4, 0)  # too few to choose by cross-validation
    more, _ = shades(80, 1)
    made = finetune(tiny_encoder(), (images, labels), tmp_path / "model", unlabelled=more, steps=30, device="cpu")
    model = Classifier.open(made)
    assert model.settings["guessed"] == 64
    fresh, truth = shades(50, 2)
    names, _ = model.of_encoded(features(model.encoder, fresh))
    assert (names.astype(int) == truth).mean() > 0.9


def test_texts_are_guessed_by_their_topics(tmp_path):
    """An encoder that has learned nothing does not lead the guesses astray."""
    import withheld

    random = np.random.default_rng(0)
    words = [
        ["sea", "ship", "sail", "wave", "harbor", "captain", "storm", "anchor"],
        ["court", "judge", "law", "trial", "jury", "verdict", "crime", "lawyer"],
    ]
    texts = [
        " ".join(random.choice(words[i % 2], 6)) + f" {random.choice(['and', 'or', 'the', 'of'])}" for i in range(200)
    ]
    labels = np.arange(200) % 2
    withheld.pretrain("bert", texts, tmp_path / "run", steps=2, size=16, batch_size=8, pictures=False, device="cpu")
    encoder = withheld.load_encoder(tmp_path / "run")
    learn = np.array(texts[:20], object)
    known = Known(learn, labels[:20], ["sea", "law"], None)
    items, answers, guessed = with_guesses(
        judged(encoder), learn, labels[:20], 2, known, texts[20:], 0, lambda event: None
    )
    truly = dict(zip(texts, labels.tolist(), strict=True))
    assert guessed > 100
    assert np.mean([truly[str(item)] == answer for item, answer in zip(items, answers, strict=True)]) > 0.95
