"""tf-idf, and tf-idf with the probe, beside scikit-learn."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from withheld.evaluate.compare import Row
from withheld.evaluate.few_label import LinearProbe
from withheld.evaluate.measure import Table
from withheld.evaluate.text_floors import FIXED, Counted, fit_tfidf, measure_together


def test_few_labels_take_the_fixed_strength_and_all_classes_have_a_column():
    x = sparse.csr_matrix(np.random.default_rng(0).random((6, 9)))
    y = np.array([0, 0, 2, 2, 0, 2])
    found = fit_tfidf(x, y, 4, 0)(x)
    theirs = LogisticRegression(C=FIXED, max_iter=300).fit(x, y).predict_proba(x)
    np.testing.assert_allclose(found[:, [0, 2]], theirs)
    assert not found[:, [1, 3]].any()


def test_together_is_the_geometric_mean_of_both():
    rng = np.random.default_rng(1)
    y, learned, tested = np.array([0, 1, 0, 1, 0, 1]), np.arange(6), np.arange(6, 10)
    words, meaning = sparse.csr_matrix(rng.random((10, 12))), rng.normal(size=(10, 5))
    where = {at: at for at in range(10)}
    probe = LinearProbe(2, 0).fit(meaning[:6], y)

    class Measured:
        kept, probes = Table(meaning, where), {(6, 0): probe}

        def frozen(self, row: Row, of, classify) -> None:
            self.row, self.found = row, classify(of(0).at(learned), y, of(0).at(tested), 0)

    m = Measured()
    counted = Counted(Table(words, where), {(6, 0): fit_tfidf(words[:6], y, 2, 0)})
    measure_together(m, counted)
    one, two = counted.fitted[6, 0](words[6:]), probe.probabilities(meaning[6:])
    both = (one * two) ** 0.5
    np.testing.assert_allclose(m.found, both / both.sum(axis=1, keepdims=True))
    assert m.row.method == "tf-idf + linear probe"
