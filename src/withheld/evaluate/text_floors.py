"""What a verdict on texts has to beat: tf-idf with logistic regression.

Shapes: N texts, V words and pairs of words, K classes.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from threadpoolctl import threadpool_limits

from withheld.evaluate.compare import FLOOR, Row
from withheld.evaluate.few_label import ENOUGH
from withheld.evaluate.measure import Measurement, Table, everything, rows

TFIDF = "tf-idf"
STRENGTHS = (1.0, 10.0, 100.0)
FIXED = 10.0
MOST_WORDS = 50_000
MOST_UNLABELLED = 10_000


def measure_tfidf(m: Measurement) -> None:
    """The row: words and pairs of words, counted on unlabelled and labelled texts but on none that is tested."""
    needed = everything(m.labelled)
    tested = np.unique(np.concatenate([m.labelled.tested(seed) for seed in m.labelled.seeds]))
    free = np.setdiff1d(needed, tested)
    known = [str(text) for text in m.images[rows(m.row_of, free if len(free) else needed)]]
    if m.labelled.more is not None:
        at = np.random.default_rng(0).permutation(len(m.labelled.more))[:MOST_UNLABELLED]
        known += [str(text) for text in m.judged.decode(m.labelled.more.subset(np.sort(at)), m.listen)[0]]
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), min_df=2 if len(known) > 100 else 1, max_features=MOST_WORDS
    )
    try:
        vectorizer.fit(known)
    except ValueError:  # of scikit-learn, where nothing is left to count
        m.left_out.append(f'"{TFIDF}": no word of two letters or more stands in enough of the texts')
        return
    values = vectorizer.transform([str(text) for text in m.images[rows(m.row_of, needed)]])
    table = Table(values, {int(at): row for row, at in enumerate(needed)})
    m.frozen(Row(TFIDF, FLOOR, note=f"{len(vectorizer.vocabulary_):,} words and pairs of words"), lambda seed: table,
             lambda x, y, test, seed: tfidf_probabilities(x, y, test, m.classes, seed))  # fmt: skip


def tfidf_probabilities(x: Any, y_N: NDArray[np.int64], test: Any, classes: int, seed: int) -> NDArray[np.floating]:
    """(M, K), by logistic regression whose strength is chosen by cross-validation where there are labels enough."""
    model: Any = LogisticRegression(C=FIXED, max_iter=300)
    if int(np.bincount(y_N)[np.unique(y_N)].min()) >= ENOUGH:
        folds = StratifiedKFold(3, shuffle=True, random_state=seed)
        model = GridSearchCV(LogisticRegression(max_iter=300), {"C": STRENGTHS}, cv=folds)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y_N)
        found = np.zeros((test.shape[0], classes))
        found[:, model.classes_] = model.predict_proba(test)
    return found
