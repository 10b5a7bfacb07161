"""M1 + M2 as a classifier, and the rows of a verdict that use unlabelled items."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_vit import tiny_encoder

from withheld.data.few import FewLabels
from withheld.errors import InputError
from withheld.evaluate import m2, public, tuned, unlabelled
from withheld.evaluate.labelled import open_labelled
from withheld.evaluate.m2 import RECIPE, Mixed, Posterior, StyleClassifier, Told, told_by
from withheld.evaluate.measure import Table
from withheld.evaluate.sentence import M2_ROW, MIXTURE, PROBE
from withheld.evaluate.verdict import verdict
from withheld.types import UNKNOWN_LABEL

QUICK = RECIPE.change(epochs=30, base_learning_rate=6e-3, batch_size=128)


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr(m2, "FEWEST_STEPS", 5)


def clusters(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.integers(3, size=n)
    x = np.array([[0, 0, 0], [4, 0, 0], [0, 4, 0]])[y] + random.normal(size=(n, 3))
    return x.astype(np.float32), y


def test_it_learns_classes_from_three_labels_each():
    x, y = clusters()
    few = np.concatenate([np.flatnonzero(y == k)[:3] for k in range(3)])
    rest = np.setdiff1d(np.arange(600), few)
    found = StyleClassifier(3, width=32, recipe=QUICK).fit(Told(x[few]), y[few], Told(x[rest[:400]]))
    probabilities = found.probabilities(Told(x[rest[400:]]))
    assert probabilities.shape == (191, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (probabilities.argmax(1) == y[rest[400:]]).mean() > 0.85
    assert found.steps > 0
    assert not found.sampled


def test_the_same_seed_gives_the_same():
    x, y = clusters(100)
    one, two = (
        StyleClassifier(3, width=8, recipe=QUICK.change(epochs=1)).fit(Told(x[:20]), y[:20], Told(x[20:]))
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.probabilities(Told(x)), two.probabilities(Told(x)))


def test_batches_mix_labelled_and_unlabelled():
    x = np.arange(12, dtype=np.float32)[:, None]
    items = Mixed(Told(x[:2]), np.array([0, 1]), Told(x[2:]))
    t = items.batch(np.arange(len(items)), torch.device("cpu"))
    known = t["label"] != UNKNOWN_LABEL
    assert len(items) >= len(x)
    assert set(t["item"][~known].flatten().tolist()) == set(range(2, 12))
    assert all(float(item) == float(label) for item, label in zip(t["item"][known], t["label"][known], strict=True))
    some = items.batch(np.array([11, 0]), torch.device("cpu"))
    assert some["label"].tolist() == [1, UNKNOWN_LABEL]


def test_deviations_are_drawn_with_and_scaled():
    x, y = clusters(200)
    told = Told(x, np.full_like(x, 0.5))
    found = StyleClassifier(3, width=8, recipe=QUICK.change(epochs=1)).fit(told.at(np.arange(50)), y[:50], told)
    assert found.sampled
    drawn = np.sqrt(x.var(axis=0) + 0.25)
    np.testing.assert_allclose(found._scale, drawn, rtol=0.2)


def test_features_that_tell_nothing_are_left_out():
    x, y = clusters(200)
    wide = np.concatenate([x, np.full((200, 2), 0.01, np.float32)], axis=1)
    found = StyleClassifier(3, width=8, recipe=QUICK.change(epochs=1)).fit(Told(wide[:50]), y[:50], Told(wide))
    assert found.network.columns == 3


def test_bad_input_is_named():
    x, y = clusters(50)
    with pytest.raises(InputError, match="class"):
        StyleClassifier(3).fit(Told(x[:5]), np.zeros(5, int), Told(x))
    with pytest.raises(InputError, match="unlabelled"):
        StyleClassifier(3).fit(Told(x), y, Told(x[:0]))


def test_an_encoder_that_is_no_vae_gives_its_features():
    encoder = tiny_encoder()
    subject, read = told_by(encoder)
    assert subject is encoder
    assert read(np.ones((2, 4), np.float32)).deviation is None


def test_a_recognition_network_gives_means_and_deviations():
    from withheld.image_encoder import ImageEncoder
    from withheld.networks.image import fresh_trunk
    from withheld.networks.recognition import RecognitionConfig

    trunk = fresh_trunk(RecognitionConfig(image_size=8, num_channels=1, hidden_size=5), 0)
    encoder = ImageEncoder(trunk, [0.0], [1.0], name="vae", flips=False).eval()
    subject, read = told_by(encoder)
    assert isinstance(subject, Posterior)
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8)).astype(np.uint8)
    told = read(subject.transform(images))
    np.testing.assert_allclose(told.mean, encoder.transform(images), rtol=1e-5, atol=1e-6)
    assert told.deviation is not None
    assert (told.deviation > 0).all()


@pytest.fixture(scope="module")
def found(digits):
    """A verdict with M1 + M2, and what the rows learned from."""
    patch = pytest.MonkeyPatch()
    patch.setattr(tuned, "steps_for", lambda items: 2)
    patch.setattr(public, "_cached", lambda name: None)
    patch.setattr(m2, "FEWEST_STEPS", 3)
    seen: list[tuple[int, int, int]] = []
    fit = StyleClassifier.fit

    def remember(self, x, y, others, listen=None):
        seen.append((len(x), len(others), self.seed))
        self.recipe = QUICK.change(epochs=0.5)
        return fit(self, x, y, others, listen)

    patch.setattr(StyleClassifier, "fit", remember)
    pixels, labels = digits
    made = verdict(
        tiny_encoder(), (pixels[:400], labels[:400]), labels_per_class=(1, 10), seeds=2, minutes=2, also=("m2",)
    )
    patch.undo()
    return made, seen, (pixels[:400], labels[:400])


@pytest.mark.slow
def test_both_rows_stand_in_the_verdict(found):
    made, _, _ = found
    for method in (MIXTURE, M2_ROW):
        scores = [score for score in made.scores if score.method == method]
        assert [score.labels_per_class for score in scores] == [1, 10]
        assert all(score.seeds == [0, 1] for score in scores)
    assert {MIXTURE, M2_ROW, PROBE} <= {row["method"] for row in made.table()}


@pytest.mark.slow
def test_no_tested_item_is_learned_from(found):
    _, seen, data = found
    labelled = open_labelled(data, True, [1, 10], 2)
    for labels, others, seed in seen:
        tested = len(labelled.tested(seed))
        assert labels + others <= 400 - tested


def test_where_all_have_labels_at_the_most_the_others_are_kept_and_it_is_said(monkeypatch):
    y, random = np.repeat(np.arange(3), 10), np.random.default_rng(0)
    x = (5 * np.eye(3)[y] + random.normal(size=(30, 3))).astype(np.float32)
    draws = {(count, seed): FewLabels(np.flatnonzero(np.arange(30) % 10 < count), np.arange(30, 36), seed)
             for count in (2, 10) for seed in (0, 1)}  # fmt: skip
    labelled = SimpleNamespace(counts=[2, 10], seeds=[0, 1], draws=draws, labels=np.append(y, y[:6]), more=None)
    table = Table(np.concatenate([x, x[:6]]), {at: at for at in range(36)})
    scored: list[int] = []
    m = SimpleNamespace(labelled=labelled, classes=3, budget=60.0, elapsed=0.0, rows=[], left_out=[], say=print,
                        listen=lambda line: None, table=lambda subject, needed: table,
                        done=lambda row, count: scored.append(count))  # fmt: skip
    m.score = lambda row, count, seed, found, test: row.add(count, seed, found.argmax(axis=1) == 0, test)
    monkeypatch.setattr(unlabelled, "everything", lambda labelled: np.arange(36))
    unlabelled.measure_m2(m, None)
    assert scored == list(m.rows[0].right) == [2]
    (told,) = m.left_out
    assert told.startswith('"M1 + M2" at 10 labels per class: ')
    assert "the data has none" in told


def test_an_unknown_row_is_refused(digits):
    with pytest.raises(InputError, match="there is m2"):
        verdict(tiny_encoder(), digits, also=("m3",))
