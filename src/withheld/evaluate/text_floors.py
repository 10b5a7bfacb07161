"""What a verdict on texts has to beat: tf-idf with logistic regression.

Shapes: N texts, V words and pairs of words, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from threadpoolctl import threadpool_limits

from withheld.evaluate.compare import FLOOR, PRETRAINED, Row
from withheld.evaluate.few_label import ENOUGH
from withheld.evaluate.measure import Measurement, Table, everything, rows
from withheld.evaluate.sentence import TOGETHER

TFIDF = "tf-idf"
Labels = NDArray[np.int64]
Probabilities = Callable[[Any], NDArray[np.floating]]
STRENGTHS = (1.0, 10.0, 100.0)
FIXED = 10.0
MOST_WORDS = 50_000
MOST_UNLABELLED = 10_000


class Counted(NamedTuple):
    """Texts as tf-idf sees them, and what was fitted to the labels: (labels in all, seed) -> probabilities of texts."""

    table: Table
    fitted: dict[tuple[int, int], Probabilities]


def measure_tfidf(m: Measurement) -> Counted:
    """The row: words and pairs of words, counted on unlabelled and labelled texts but on none that is tested."""
    needed = everything(m.labelled)
    tested = np.unique(np.concatenate([m.labelled.tested(seed) for seed in m.labelled.seeds]))
    free = np.setdiff1d(needed, tested)
    known = [str(text) for text in m.images[rows(m.row_of, free if len(free) else needed)]]
    if m.labelled.more is not None:
        at = np.random.default_rng(0).permutation(len(m.labelled.more))[:MOST_UNLABELLED]
        known += [str(text) for text in m.judged.decode(m.labelled.more.subset(np.sort(at)), m.listen)[0]]
    fitted: dict[tuple[int, int], Probabilities] = {}
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), min_df=2 if len(known) > 100 else 1, max_features=MOST_WORDS
    )
    vectorizer.fit(known)
    values = vectorizer.transform([str(text) for text in m.images[rows(m.row_of, needed)]])
    table = Table(values, {int(at): row for row, at in enumerate(needed)})

    def classify(x: Any, y_N: Labels, test: Any, seed: int) -> NDArray[np.floating]:
        found = fitted[len(y_N), seed] = fit_tfidf(x, y_N, m.classes, seed)
        return found(test)

    m.frozen(
        Row(TFIDF, FLOOR, note=f"{len(vectorizer.vocabulary_):,} words and pairs of words"),
        lambda seed: table,
        classify,
    )
    return Counted(table, fitted)


def measure_together(m: Measurement, counted: Counted) -> None:
    """The row that guesses by tf-idf and the linear probe with equal votes: the geometric mean of their probabilities.

    Which words stand in a text and what they mean among others err differently; nothing is fitted to join them.
    """
    kept = m.kept
    if kept is None:
        return

    def classify(at: Any, y_N: Labels, test: Any, seed: int) -> NDArray[np.floating]:
        words = counted.fitted[len(y_N), seed](counted.table.at(test))
        meaning = m.probes[len(y_N), seed].probabilities(kept.at(test))
        both = np.sqrt(words * meaning)
        return both / both.sum(axis=1, keepdims=True)

    m.frozen(Row(TOGETHER, PRETRAINED, note="equal votes"), lambda seed: Positions(), classify)


class Positions:
    """Stands for features where a row looks up its own: the items' positions."""

    @staticmethod
    def at(positions: Labels) -> Labels:
        """The positions themselves."""
        return positions


def fit_tfidf(x: Any, y_N: Labels, classes: int, seed: int) -> Probabilities:
    """What gives (M, K) for other texts: logistic regression, its strength by cross-validation where labels are enough."""
    model: Any = LogisticRegression(C=FIXED, max_iter=300)
    if int(np.bincount(y_N)[np.unique(y_N)].min()) >= ENOUGH:
        folds = StratifiedKFold(3, shuffle=True, random_state=seed)
        model = GridSearchCV(LogisticRegression(max_iter=300), {"C": STRENGTHS}, cv=folds)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y_N)

    def probabilities(test: Any) -> NDArray[np.floating]:
        found = np.zeros((test.shape[0], classes))
        found[:, model.classes_] = model.predict_proba(test)
        return found

    return probabilities
