"""tf-idf as scikit-learn has it, learned on nothing that is tested, and what unlabelled texts add to it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from scipy.sparse import issparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from withheld.data.text import open_texts
from withheld.evaluate import text_floors
from withheld.evaluate.labelled import open_labelled
from withheld.evaluate.text_floors import FIXED, TOPICS, Words, WordsOfDraws, counted, tfidf_probabilities
from withheld.evaluate.verdict import verdict


def sentences(count: int, seed: int = 0) -> list[str]:
    words = np.random.default_rng(seed).zipf(1.6, (count, 12)) % 300
    return [" ".join(f"w{word}" for word in row) for row in words]


@pytest.mark.parametrize(("known", "least"), [(40, 1), (200, 2)])
def test_weights_are_those_of_scikit_learn(known, least):
    texts = sentences(known + 30)
    counter, counts = counted(texts)
    words = Words(counts[:known])
    reference = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=least).fit(texts[:known])
    names = counter.get_feature_names_out()[words.columns]
    assert list(names) == list(reference.get_feature_names_out())
    expected = reference.transform(texts[known:])
    np.testing.assert_allclose(words.weighted(counts[known:]).toarray(), expected.toarray(), atol=1e-12)
    topics = words.topics(words.weighted(counts))
    assert topics.shape == (known + 30, min(TOPICS[0], known // 4))
    assert Words(counts[:known], 20).topics(words.weighted(counts)).shape[1] == min(100, known // 4)
    np.testing.assert_allclose(np.linalg.norm(topics, axis=1), 1, atol=1e-5)


def test_few_texts_are_told_what_a_regression_on_all_words_tells():
    texts = sentences(300)
    labels = np.array([hash_of(text) for text in texts])
    counts = counted(texts)[1]
    x = Words(counts).weighted(counts)
    expected = LogisticRegression(C=FIXED, max_iter=2000, tol=1e-8).fit(x[:12], labels[:12]).predict_proba(x[12:])
    np.testing.assert_allclose(tfidf_probabilities(x[:12], labels[:12], x[12:], 3, 0), expected, atol=1e-3)


class Watched(LogisticRegression):
    """Keeps what it is fitted to, and ends after a step."""

    seen: ClassVar[list[tuple[bool, int]]] = []

    def fit(self, x, y):
        self.seen.append((issparse(x), x.shape[0]))
        self.max_iter = 1
        return super().fit(x, y)


@pytest.mark.parametrize("most", [None, 300])
def test_many_classes_are_not_fitted_to_all_words_again_and_again(most, monkeypatch):
    """100 labels of 24 classes: 50,000 words times 24 weights, ten times, took minutes of a verdict."""
    texts = sentences(2400)
    labels = np.arange(2400) % 24
    counts = counted(texts)[1]
    x = Words(counts).weighted(counts)
    monkeypatch.setattr(text_floors, "LogisticRegression", Watched)
    monkeypatch.setattr(text_floors, "MOST_WEIGHTS", 1000)
    monkeypatch.setattr(text_floors, "MOST_SPANNED", most or text_floors.MOST_SPANNED)
    Watched.seen = []
    tfidf_probabilities(x, labels, x[:5], 24, 0)
    assert len(Watched.seen) == 10, "three strengths, three folds, and the one that is kept"
    assert Watched.seen[-1] == (most is not None, 2400)
    assert not any(on_all_words for on_all_words, _ in Watched.seen[:-1])
    assert max(rows for _, rows in Watched.seen[:-1]) == (200 if most else 1600)


def test_labelled_texts_that_share_no_word_with_others_tell_nothing_and_end_nothing():
    texts = [f"alone{i} good" if i % 3 else f"alone{i}" for i in range(120)]
    words = Words(counted(texts)[1])
    x = words.weighted(counted(texts)[1])
    assert len(words.columns) == 1  # the others stand in one text each
    np.testing.assert_allclose(tfidf_probabilities(x[[0, 3]], np.array([0, 2]), x[:5], 3, 0)[:, [0, 2]], 0.5)
    np.testing.assert_array_equal(words.topics(x[:4]), [[0], [1], [1], [0]])


def hash_of(text: str) -> int:
    return sum(map(ord, text)) % 3


def test_no_text_that_is_tested_weighs_a_word():
    texts, labels = sentences(60), [i % 2 for i in range(60)]

    def words_of(some: list[str]) -> WordsOfDraws:
        labelled = open_labelled((some, labels), True, [3], 2, open_texts)
        row_of = {at: at for at in range(len(some))}
        kind = SimpleNamespace(decode=lambda source, listen: ([], None))
        asked = SimpleNamespace(
            labelled=labelled, images=np.array(some, object), row_of=row_of, judged=kind, listen=print, classes=2
        )
        return WordsOfDraws(asked)

    before = words_of(texts)
    tested = before.tested[1]
    assert len(tested) == 18
    changed = [f"{text} w1 w1 other" if at in set(tested.tolist()) else text for at, text in enumerate(texts)]
    after, rest = words_of(changed), np.setdiff1d(before.needed, tested)
    one, other = (found.of(1)[1].at(rest) for found in (before, after))
    assert one.shape == other.shape
    np.testing.assert_array_equal(one.toarray(), other.toarray())
    assert before.of(0)[0] is not before.of(1)[0], "each draw has its own"


def test_unlabelled_paragraphs_help(shared_data: Path):
    """Which of four books a paragraph is of, three labels each: neighbors among topics tell more than words alone."""
    texts, labels = [], []
    for label, book in enumerate(sorted((shared_data / "gutenberg").rglob("*.txt"))[:4]):
        parts = [re.sub(r"\s+", " ", part).strip() for part in re.split(r"\n\s*\n", book.read_text("utf-8", "replace"))]
        texts += (own := [part for part in parts if 300 < len(part) < 1500][20:140])
        labels += [label] * len(own)

    class Shape:
        def transform(self, items: list[str]) -> np.ndarray:
            return np.array([[len(text), text.count(","), text.count('"')] for text in items], np.float32)

    found = verdict(
        Shape(), (texts, labels), labels_per_class=[3], seeds=3, minutes=5.0
    )  # no straight quotes there: a feature is constant
    scores = {score.method: score.value for score in found.scores}
    assert scores["self-training on tf-idf"] > scores["tf-idf"] + 0.08
    assert scores["self-training with tf-idf"] > scores["tf-idf"] + 0.05
    assert "self-training" in found.sentence
    assert scores["LSA"] > scores["tf-idf"]


def test_topics_are_learned_from_as_scikit_learn_does():
    texts = sentences(200)
    labels = np.array([hash_of(text) for text in texts])
    counts = counted(texts)[1]
    words = Words(counts)
    x = words.weighted(counts)
    reference = make_pipeline(TruncatedSVD(words._most, random_state=0).fit(x), Normalizer())
    expected = LogisticRegression(C=FIXED, max_iter=300).fit(reference.transform(x[:12]), labels[:12])
    found = tfidf_probabilities(words.topics(x[:12]), labels[:12], words.topics(x), 3, 0)
    np.testing.assert_allclose(found, expected.predict_proba(reference.transform(x)), atol=1e-3)
