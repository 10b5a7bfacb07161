"""What a verdict on texts has to beat: logistic regression on tf-idf and on topics, its few main directions.

Shapes: N texts, V words and pairs of words, T topics, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cholesky, solve_triangular
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from threadpoolctl import threadpool_limits

from withheld.data.scripts import WORD
from withheld.evaluate.compare import FLOOR, Row
from withheld.evaluate.few_label import ENOUGH
from withheld.evaluate.measure import Measurement, Table, everything, rows

TFIDF, TOPICS_ROW = "tf-idf", "LSA"
STRENGTHS = (1.0, 10.0, 100.0)
FIXED = 10.0
MOST_WORDS = 50_000
MOST_UNLABELLED = 10_000
SHARE = 0.25
"""Of the time of a verdict, at most, for each of the two rows, above the headline's labels."""
TOPICS, OF_CLASS = (64, 200), 5
"""Topics at least and at most, and for each class."""
TEXTS_A_TOPIC = 4
"""Of fewer texts fewer topics are found: where there are as many as texts, each is a text by itself."""
MOST_SPANNED = 4000
"""Labelled texts in whose span logistic regression is fitted, a fifth of the time; of more it takes all words."""
MOST_WEIGHTS = 500_000
"""Words times classes above which C is chosen on so many texts as have a span: ten fits to all words would take minutes."""


def counted(texts: Sequence[Any]) -> tuple[CountVectorizer, sparse.csr_matrix]:
    """How often words, and pairs of words, stand in each text (N, V), and what counts further texts alike.

    Of scripts without spaces a character is counted as a word: pairs of them are the usual baseline there.

    Raises:
        ValueError: where no text has a word of two letters or more.
    """
    counter = CountVectorizer(ngram_range=(1, 2), token_pattern=WORD, dtype=np.int32)
    return counter, sparse.csr_matrix(counter.fit_transform(str(text) for text in texts))


class Words:
    """Weights of words and pairs of words, learned from the texts that may be learned from.

    Args:
        counts_NV: of these texts, as `counted` gives them.
        classes: that are to be told apart: of more, more topics are found.

    Raises:
        ValueError: where no word stands in enough of them.
    """

    def __init__(self, counts_NV: sparse.csr_matrix, classes: int = 2) -> None:
        texts, total = np.diff(counts_NV.tocsc().indptr), np.asarray(counts_NV.sum(axis=0)).ravel()
        columns = np.flatnonzero(texts >= (2 if counts_NV.shape[0] > 100 else 1))
        if not len(columns):
            raise ValueError("no word stands in enough of the texts")
        self.columns = np.sort(columns[np.argsort(-total[columns], kind="stable")[:MOST_WORDS]])
        self._weight = TfidfTransformer(sublinear_tf=True).fit(counts_NV[:, self.columns])
        self._known = self.weighted(counts_NV)
        self._turn: TruncatedSVD | None = None
        self._most = min(max(OF_CLASS * classes, TOPICS[0]), TOPICS[1], min(self._known.shape) // TEXTS_A_TOPIC)

    def weighted(self, counts_MV: sparse.csr_matrix) -> sparse.csr_matrix:
        """tf-idf of other texts, rows of length 1."""
        return sparse.csr_matrix(self._weight.transform(counts_MV[:, self.columns]))

    def topics(self, weighted_MV: sparse.csr_matrix) -> NDArray[np.float32]:
        """(M, T) main directions of tf-idf (latent semantic analysis: Deerwester et al. 1990), rows of length 1."""
        if len(self.columns) < 2:  # one word is one direction
            return weighted_MV.toarray().astype(np.float32)
        if self._turn is None:
            self._turn = TruncatedSVD(max(1, self._most), random_state=0).fit(self._known)
        found = self._turn.transform(weighted_MV)
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9), np.float32)


class WordsOfDraws:
    """Words of the labelled texts of a verdict and of unlabelled ones; what weighs them is learned on none that is tested.

    Args:
        m: the evaluation.

    Raises:
        ValueError: as `counted`.
    """

    def __init__(self, m: Measurement) -> None:
        self.needed, self.classes = everything(m.labelled), m.classes
        self.row_of = {int(at): row for row, at in enumerate(self.needed)}
        self.tested = {seed: m.labelled.tested(seed) for seed in m.labelled.seeds}
        texts = list(m.images[rows(m.row_of, self.needed)])
        if m.labelled.more is not None:
            at = np.random.default_rng(0).permutation(len(m.labelled.more))[:MOST_UNLABELLED]
            texts += list(m.judged.decode(m.labelled.more.subset(np.sort(at)), m.listen)[0])
        self.counter, self.counts = counted(texts)
        self.learned: dict[bytes, tuple[Words, Table]] = {}
        self.found: dict[int, Table] = {}

    def of(self, seed: int) -> tuple[Words, Table]:
        """For one draw: the weights, and tf-idf of all labelled texts; one for all draws where they test the same."""
        tested = self.tested[seed]
        if tested.tobytes() not in self.learned:
            known = np.concatenate(
                [~np.isin(self.needed, tested), np.ones(self.counts.shape[0] - len(self.needed), bool)]
            )
            words = Words(self.counts[np.flatnonzero(known)], self.classes)
            table = Table(words.weighted(self.counts[: len(self.needed)]), self.row_of)
            self.learned[tested.tobytes()] = words, table
        return self.learned[tested.tobytes()]

    def topics(self, seed: int) -> Table:
        """For one draw: topics of all labelled texts."""
        words, table = self.of(seed)
        if id(words) not in self.found:
            self.found[id(words)] = Table(words.topics(table.values), self.row_of)
        return self.found[id(words)]


def measure_tfidf(m: Measurement) -> None:
    """Two rows: words and pairs of words, counted on unlabelled and labelled texts but, for each draw, on none that it tests."""
    try:
        m.words = words = WordsOfDraws(m)
        many = [len(words.of(seed)[0].columns) for seed in m.labelled.seeds]
    except ValueError:
        m.words = None
        m.left_out.append(f'"{TFIDF}": no word of two letters or more stands in enough of the texts')
        return
    told = lambda x, y, test, seed: tfidf_probabilities(x, y, test, m.classes, seed)  # noqa: E731
    m.frozen(
        Row(TFIDF, FLOOR, note=f"{max(many):,} words and pairs of words"),
        lambda seed: words.of(seed)[1],
        told,
        share=SHARE,
    )
    directions = words.topics(m.labelled.seeds[0]).values.shape[1]
    m.frozen(Row(TOPICS_ROW, FLOOR, note=f"{directions} main directions of tf-idf"), words.topics, told, share=SHARE)


def tfidf_probabilities(x: Any, y_N: NDArray[np.int64], test: Any, classes: int, seed: int) -> NDArray[np.floating]:
    """(M, K), by logistic regression whose strength is chosen by cross-validation where there are labels enough."""
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes")  # one label a class is what we are for
        strength, checked, z = FIXED, np.arange(len(y_N)), _spanned(x)
        if z is x and x.shape[0] > MOST_SPANNED and x.shape[1] * classes > MOST_WEIGHTS:
            checked = np.sort(np.random.default_rng(seed).choice(len(y_N), MOST_SPANNED, replace=False))
        if int(np.bincount(y_N[checked], minlength=classes)[np.unique(y_N)].min()) >= ENOUGH:
            folds = StratifiedKFold(3, shuffle=True, random_state=seed)
            tried = GridSearchCV(LogisticRegression(max_iter=300), {"C": STRENGTHS}, cv=folds, refit=False)
            some = z if len(checked) == len(y_N) else _spanned(x[checked])
            strength = tried.fit(some, y_N[checked]).best_params_["C"]
        model = LogisticRegression(C=strength, max_iter=300).fit(z, y_N)
        if z is not x:  # weights of words again
            model.coef_ = np.asarray(x.T @ solve_triangular(z, model.coef_.T, lower=True, trans="T")).T
            model.n_features_in_ = x.shape[1]
        found = np.zeros((test.shape[0], classes))
        found[:, model.classes_] = model.predict_proba(test)
    return found


def _spanned(x_NV: Any) -> Any:
    """(N, N) the texts in the space that they span, lower triangular: the penalty is round, so the solution is the same, and
    sooner found; as they are where they are dense, many, or without a word that counts."""
    if isinstance(x_NV, np.ndarray) or x_NV.shape[0] > MOST_SPANNED or not x_NV.nnz:
        return x_NV
    alike = (x_NV @ x_NV.T).toarray()
    alike[np.diag_indices_from(alike)] += 1e-9 * alike.diagonal().max()  # texts that are there twice
    return cholesky(alike, lower=True, overwrite_a=True)
