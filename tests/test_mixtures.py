"""Mixtures against scikit-learn, closed forms and naive formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import gammaln, logsumexp, multigammaln
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from sklearn.mixture import BayesianGaussianMixture as TheirBayesian
from sklearn.mixture import GaussianMixture as Theirs

from old_faithful import OLD_FAITHFUL
from withheld import BayesianGaussianMixture, BernoulliMixture, GaussianMixture
from withheld.errors import InputError
from withheld.mixtures import DeadComponent
from withheld.networks.bayesian_mixture import BayesianMixtureModel
from withheld.networks.gaussian_mixture import COVARIANCES, GaussianMixtureModel

IRIS = load_iris().data


def blobs(n=300, d=3, k=3, seed=0):
    random = np.random.default_rng(seed)
    z = random.integers(k, size=n)
    return random.normal(size=(k, d))[z] * 4 + random.normal(size=(n, d)) @ random.normal(size=(d, d)), z


def same_start(X, k, covariance):
    """Ours after its start, and theirs set to the same parameters."""
    ours = GaussianMixture(k, covariance_type=covariance, max_iter=1, tol=0, random_state=3).fit(X)
    inverse = np.linalg.inv(ours.covariances_) if covariance in ("full", "tied") else 1 / ours.covariances_
    return {"weights_init": ours.weights_, "means_init": ours.means_, "precisions_init": inverse}


def test_the_values_are_the_published_ones():
    assert OLD_FAITHFUL.shape == (272, 2)
    np.testing.assert_allclose(OLD_FAITHFUL.mean(axis=0), [3.487783, 70.89706], rtol=1e-6)
    np.testing.assert_allclose(OLD_FAITHFUL.std(axis=0, ddof=1), [1.141371, 13.59497], rtol=1e-6)


def test_old_faithful_and_iris_reach_the_published_likelihoods():
    two = GaussianMixture(2, tol=1e-10, max_iter=1000, reg_covar=0, random_state=0).fit(OLD_FAITHFUL)
    assert two.score(OLD_FAITHFUL) * 272 == pytest.approx(-1130.264, abs=1e-3)
    assert two.bic(OLD_FAITHFUL) == pytest.approx(2322.19, abs=0.01)  # mclust writes it with the other sign
    three = GaussianMixture(3, tol=1e-10, max_iter=1000, reg_covar=0, n_init=5, random_state=0).fit(IRIS)
    assert three.score(IRIS) * 150 == pytest.approx(-180.186, abs=1e-2)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_equal_to_scikit_learn_from_the_same_start(covariance):
    X, _ = blobs()
    start = same_start(X, 3, covariance)
    ours = GaussianMixture(3, covariance_type=covariance, max_iter=30, tol=0, **start).fit(X)
    theirs = Theirs(3, covariance_type=covariance, max_iter=30, tol=0, **start).fit(X)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), atol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(ours.means_, theirs.means_, atol=1e-8)
    np.testing.assert_allclose(ours.covariances_, theirs.covariances_, atol=1e-8)
    assert ours.bic(X) == pytest.approx(theirs.bic(X), abs=1e-4)
    assert ours.aic(X) == pytest.approx(theirs.aic(X), abs=1e-4)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_float32_tiles_keep_six_digits(covariance):
    random = np.random.default_rng(0)
    X = random.normal(size=(5000, 6)) + 4 * random.normal(size=(5, 6))[random.integers(5, size=5000)]
    fits = [GaussianMixture(5, covariance_type=covariance, single=s, max_iter=20, tol=0).fit(X) for s in (True, False)]
    assert fits[0].model_.exact == torch.float32
    assert fits[0].score(X) == pytest.approx(fits[1].score(X), rel=1e-6)


def test_needles_are_computed_in_float64():
    X = np.concatenate([np.random.default_rng(0).normal(size=(3000, 2)) * s + 5 * s for s in (1, 1e-3)])
    assert GaussianMixture(2, random_state=0).fit(X).model_.exact == torch.float64


def test_columns_far_from_zero_are_computed_in_float64():
    X = np.random.default_rng(0).normal(size=(3000, 2)) + np.array([0, 1e6])
    found = GaussianMixture(2, random_state=0).fit(X)
    assert found.model_.exact == torch.float64
    near = GaussianMixture(2, random_state=0).fit(X - np.array([0, 1e6]))
    assert found.score(X) == pytest.approx(near.score(X - np.array([0, 1e6])), rel=1e-6)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_log_likelihood_is_bound_plus_divergence_for_any_q(covariance):
    X, _ = blobs(60)
    torch.manual_seed(0)
    model = GaussianMixtureModel(3, 3, covariance).fitted(torch.from_numpy(X))
    joint = model.log_joint(torch.from_numpy(X)).T.numpy()
    evidence = logsumexp(joint, axis=1)
    posterior = np.exp(joint - evidence[:, None])
    q = np.random.default_rng(1).dirichlet(np.ones(3), size=60)
    bound = (q * (joint - np.log(q))).sum()
    divergence = (q * (np.log(q) - np.log(posterior))).sum()
    assert evidence.sum() == pytest.approx(bound + divergence, abs=1e-8)
    assert float(model.expect(torch.from_numpy(X))["bound"]) == pytest.approx(evidence.sum(), abs=1e-8)
    naive = np.stack(
        [
            np.log(model.weights[k]) + multivariate_normal(model.means[k], model.matrices()[k]).logpdf(X)
            for k in range(3)
        ]
    )
    np.testing.assert_allclose(joint.T, naive, atol=1e-9)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("case", ["plain", "missing", "weights", "labels", "all"])
@pytest.mark.parametrize("seed", range(3))
def test_the_bound_never_falls(covariance, case, seed):
    X, z = blobs(120, seed=seed)
    random = np.random.default_rng(seed)
    t = {"item": torch.from_numpy(X)}
    if case in ("missing", "all"):
        t["item"] = torch.from_numpy(np.where(random.random(X.shape) < 0.2, np.nan, X))
    if case in ("weights", "all"):
        t["weight"] = torch.from_numpy(random.random(120) * 3)
    if case in ("labels", "all"):
        t["label"] = torch.from_numpy(np.where(random.random(120) < 0.2, z, -100))
    torch.manual_seed(seed)
    model = GaussianMixtureModel(3, 3, covariance, 0.0, classes=3 if "label" in t else 0).fitted(t)
    bounds = []
    for _ in range(25):
        sums = model.expect(t)
        bounds.append(float(sums["bound"]))
        model.maximize(sums)
    assert np.diff(bounds).min() > -1e-8
    assert bounds[-1] > bounds[0]


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_missing_values_against_the_naive_formula(covariance):
    X, _ = blobs(40)
    holes = np.where(np.random.default_rng(2).random(X.shape) < 0.3, np.nan, X)
    holes[0] = np.nan
    torch.manual_seed(0)
    model = GaussianMixtureModel(3, 2, covariance).fitted(torch.from_numpy(X))
    share, density = model.posterior(torch.from_numpy(holes))
    sums = model.expect(torch.from_numpy(holes))
    first, second = np.zeros((2, 3)), np.zeros((2, 3, 3))
    for row, r, p in zip(holes, share.numpy(), density.numpy(), strict=True):
        o = ~np.isnan(row)
        each = []
        for k in range(2):
            m, S = model.means[k].numpy(), model.matrices()[k].numpy()
            each.append(
                np.log(model.weights[k])
                + (multivariate_normal(m[o], S[np.ix_(o, o)]).logpdf(row[o]) if o.any() else 0.0)
            )
            gain = S[np.ix_(~o, o)] @ np.linalg.inv(S[np.ix_(o, o)]) if o.any() else np.zeros((3, 0))
            x = m.copy()
            x[o], x[~o] = row[o], m[~o] + gain @ (row[o] - m[o])
            C = np.zeros((3, 3))
            C[np.ix_(~o, ~o)] = S[np.ix_(~o, ~o)] - gain @ S[np.ix_(o, ~o)]
            first[k] += r[k] * x
            second[k] += r[k] * (np.outer(x, x) + C)
        assert p == pytest.approx(float(logsumexp(each)), abs=1e-9)
    count, ours_first, ours_second = model.moments(sums["expected"])
    c, s = model.center.numpy(), model.scale.numpy()
    n = count.numpy()[:, None]
    np.testing.assert_allclose(ours_first.numpy() * s + n * c, first, atol=1e-8)
    if model.pairs:
        scaled = ours_second.numpy() * np.outer(s, s)
        shift = (ours_first.numpy() * s)[:, :, None] * c
        back = scaled + shift + shift.transpose(0, 2, 1) + n[:, :, None] * np.outer(c, c)
        np.testing.assert_allclose(back, second, atol=1e-6)


def test_integer_weights_are_repeated_rows():
    X, _ = blobs(80)
    weight = np.random.default_rng(0).integers(1, 4, size=80)
    start = same_start(X, 2, "full")
    weighted = GaussianMixture(2, tol=0, max_iter=15, **start).fit(X, sample_weight=weight)
    repeated = GaussianMixture(2, tol=0, max_iter=15, **start).fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(weighted.means_, repeated.means_, atol=1e-10)
    np.testing.assert_allclose(weighted.covariances_, repeated.covariances_, atol=1e-10)


def test_a_few_labels_name_the_components():
    X, z = blobs(400, seed=4)
    y = np.full(400, -100)
    for k in range(3):
        y[np.flatnonzero(z == k)[:4]] = k
    assert (GaussianMixture(random_state=0).fit(X, y).predict(X) == z).mean() > 0.97
    two = GaussianMixture(components_per_class=2, random_state=0).fit(X, y)
    assert two.predict_proba(X).shape == (400, 3)
    assert (two.predict(X) == z).mean() > 0.9


def test_all_labels_known_is_quadratic_discriminant_analysis():
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

    X, z = blobs(300)
    ours = GaussianMixture(reg_covar=0).fit(X, z).predict_proba(X)
    biased = 300 / (300 - 1)
    theirs = QuadraticDiscriminantAnalysis().fit(X, z)
    np.testing.assert_allclose(ours, theirs.predict_proba(X), atol=0.05 * biased)
    assert (ours.argmax(axis=1) == theirs.predict(X)).mean() > 0.99


def test_auto_takes_as_many_components_as_the_evidence_is_for():
    random = np.random.default_rng(0)
    X = np.concatenate([random.normal(size=(100, 2)) + at for at in ([0, 0], [8, 0], [0, 8])])
    assert GaussianMixture("auto", random_state=0).fit(X).n_components_ == 3


def test_auto_counts_a_row_as_often_as_its_weight_says():
    """A second group of few rows that stand for many: as many components as scikit-learn's BIC finds on the repeated rows."""
    from sklearn.mixture import GaussianMixture as Theirs

    random = np.random.default_rng(1)
    X = np.concatenate([random.normal(0, 1, (60, 1)), random.normal(2.6, 1, (12, 1))])
    weight = np.concatenate([np.ones(60, int), np.full(12, 5)])
    repeated = np.repeat(X, weight, axis=0)
    bic = [Theirs(k, random_state=0, n_init=5, reg_covar=0.1).fit(repeated).bic(repeated) for k in (1, 2, 3)]
    ours = GaussianMixture("auto", random_state=0, reg_covar=0.1)
    assert (
        ours.fit(X, sample_weight=weight).n_components_ == ours.fit(repeated).n_components_ == 1 + int(np.argmin(bic))
    )


def test_auto_ends_where_a_component_collapses():
    """Three places, each many times over: with no regularization four components are not there."""
    random = np.random.default_rng(0)
    X = np.repeat(random.normal(size=(3, 2)), 30, axis=0) + 1e-9 * random.normal(size=(90, 2))
    assert GaussianMixture("auto", random_state=0, reg_covar=0.0).fit(X).n_components_ >= 1


def test_samples_have_the_moments_of_the_mixture():
    fitted = GaussianMixture(3, random_state=0).fit(IRIS)
    rows, z = fitted.sample(20_000)
    np.testing.assert_allclose(rows.mean(axis=0), IRIS.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(np.cov(rows.T), np.cov(IRIS.T), atol=0.08)
    np.testing.assert_allclose(np.bincount(z) / 20_000, fitted.weights_, atol=0.02)


def test_bernoulli_against_the_naive_formula():
    random = np.random.default_rng(0)
    X = (random.random((200, 6)) < random.random((2, 6))[random.integers(2, size=200)]).astype(float)
    fitted = BernoulliMixture(2, random_state=0, tol=1e-9).fit(X)
    p = fitted.means_
    naive = np.stack(
        [
            np.log(w) + (X * np.log(m) + (1 - X) * np.log(1 - m)).sum(axis=1)
            for w, m in zip(fitted.weights_, p, strict=True)
        ]
    )
    np.testing.assert_allclose(fitted.score_samples(X), logsumexp(naive, axis=0), atol=1e-9)
    every = np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1).T.astype(float)
    assert np.exp(fitted.score_samples(every)).sum() == pytest.approx(1, abs=1e-9)
    holes = np.where(random.random(X.shape) < 0.2, np.nan, X)
    assert BernoulliMixture(2, random_state=0).fit(holes).converged_


def test_mean_field_keeps_two_of_six_components_on_old_faithful():
    scaled = (OLD_FAITHFUL - OLD_FAITHFUL.mean(axis=0)) / OLD_FAITHFUL.std(axis=0)
    found = BayesianGaussianMixture(6, weight_concentration_prior=1e-3, tol=1e-8, max_iter=5000, random_state=0).fit(
        scaled
    )
    assert found.model_.used() == 2


def constants(n, K, D, a0, b0, v0, S0):
    """What scikit-learn's lower bound leaves out: the priors' normalizers and the Gaussians' 2 pi."""
    wishart = v0 / 2 * np.linalg.slogdet(S0)[1] - v0 * D / 2 * np.log(2) - gammaln((v0 - np.arange(D)) / 2).sum()
    dirichlet = gammaln(K * a0) - K * gammaln(a0)
    return K * wishart + K * D / 2 * np.log(b0) + dirichlet - n * D / 2 * np.log(2 * np.pi)


@pytest.mark.parametrize(("X", "K", "a0"), [(IRIS, 3, 0.5), (OLD_FAITHFUL, 2, 1.0), (blobs(200)[0], 4, 2.0)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_lower_bound_is_scikit_learns_but_for_its_dropped_constants(X, K, a0):
    n, D = X.shape
    theirs = TheirBayesian(
        n_components=K, weight_concentration_prior_type="dirichlet_distribution", weight_concentration_prior=a0,
        tol=1e-13, max_iter=20_000, random_state=0, reg_covar=1e-12,
    ).fit(X)  # fmt: skip
    model = BayesianMixtureModel(D, K, concentration=a0, regularization=1e-12)
    model.fitted(torch.from_numpy(X))
    model.concentrations.copy_(torch.from_numpy(theirs.weight_concentration_))
    model.mean_precisions.copy_(torch.from_numpy(theirs.mean_precision_))
    model.freedoms.copy_(torch.from_numpy(theirs.degrees_of_freedom_))
    model.means.copy_(torch.from_numpy(theirs.means_))
    model.scatters.copy_(torch.from_numpy(theirs.covariances_ * theirs.degrees_of_freedom_[:, None, None]))
    sums = model.expect(torch.from_numpy(X))
    ours = float(model.total(sums))
    left_out = constants(n, K, D, a0, 1.0, float(D), np.cov(X.T))
    assert ours == pytest.approx(theirs.lower_bound_ + left_out, abs=1e-4)
    before = model.means.clone()
    model.maximize(sums)  # theirs had converged, so ours stays
    torch.testing.assert_close(model.means, before, atol=1e-3, rtol=0)


def test_one_component_is_exact_so_the_bound_is_the_evidence():
    n, D = IRIS.shape
    model = BayesianMixtureModel(D, 1, regularization=0.0).fitted(torch.from_numpy(IRIS))
    for _ in range(3):
        model.maximize(model.expect(torch.from_numpy(IRIS)))
    bound = float(model.total(model.expect(torch.from_numpy(IRIS))))
    S0, v0, b0 = np.cov(IRIS.T), float(D), 1.0
    away = IRIS - IRIS.mean(axis=0)  # the prior's mean is the data's, so no other term
    Sn = S0 + away.T @ away
    evidence = (
        -n * D / 2 * np.log(np.pi) + multigammaln((v0 + n) / 2, D) - multigammaln(v0 / 2, D)
        + v0 / 2 * np.linalg.slogdet(S0)[1] - (v0 + n) / 2 * np.linalg.slogdet(Sn)[1] + D / 2 * np.log(b0 / (b0 + n))
    )  # fmt: skip
    assert bound == pytest.approx(evidence, abs=1e-8)


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize("seed", range(3))
def test_the_mean_field_bound_never_falls(covariance, seed):
    X, _ = blobs(150, seed=seed)
    torch.manual_seed(seed)
    model = BayesianMixtureModel(3, 6, covariance, 1e-2, regularization=0.0).fitted(torch.from_numpy(X))
    bounds = []
    for _ in range(60):
        sums = model.expect(torch.from_numpy(X))
        bounds.append(float(model.total(sums)))
        model.maximize(sums)
    assert np.diff(bounds).min() > -1e-8


class TestBadInput:
    def test_constant_columns_are_named(self):
        X = blobs()[0]
        X[:, 1] = 7
        with pytest.raises(InputError, match=r"column 1 is constant \(7"):
            GaussianMixture(2).fit(X)

    def test_more_components_than_rows(self):
        with pytest.raises(InputError, match="components=9 for 5 rows"):
            GaussianMixture(9).fit(blobs(5)[0])

    def test_infinite_values_are_named(self):
        X = blobs()[0]
        X[5, 2] = -np.inf
        with pytest.raises(InputError, match="row 5, column 2 is infinite"):
            GaussianMixture(2).fit(X)

    def test_missing_values_where_not_allowed(self):
        X = blobs()[0]
        X[3, 0] = np.nan
        with pytest.raises(InputError, match="takes no missing values"):
            BayesianGaussianMixture(2).fit(X)

    def test_a_column_without_any_value(self):
        X = blobs()[0]
        X[:, 0] = np.nan
        with pytest.raises(InputError, match="column 0 has no value"):
            GaussianMixture(2).fit(X)

    def test_bernoulli_values_outside(self):
        with pytest.raises(InputError, match="row 0, column 1 is 2"):
            BernoulliMixture(1).fit([[0, 2], [1, 0]])

    def test_shapes_and_settings(self):
        X = blobs()[0]
        wrong_ones = [
            lambda: GaussianMixture(2).fit(X[:, 0]),
            lambda: GaussianMixture(2, covariance_type="round").fit(X),
            lambda: GaussianMixture(2).fit(X, sample_weight=np.ones(3)),
            lambda: GaussianMixture(2).fit(X, y=[0]),
            lambda: GaussianMixture(2, means_init=np.zeros((3, 3))).fit(X),
            lambda: GaussianMixture(2, init_params="x").fit(X),
        ]
        for wrong in wrong_ones:
            with pytest.raises(InputError):
                wrong()

    def test_a_component_that_dies_is_reported(self):
        X = np.concatenate([np.zeros((50, 2)), np.ones((50, 2))]) + 1e-3 * np.random.default_rng(0).normal(
            size=(100, 2)
        )
        with pytest.warns(DeadComponent, match="component 2"):
            found = GaussianMixture(3, weights_init=[0.5, 0.5, 1e-9], means_init=[[0, 0], [1, 1], [50, 50]],
                                    precisions_init=np.repeat(np.eye(2)[None] * 1e4, 3, axis=0), max_iter=5).fit(X)  # fmt: skip
        assert found.dead_ == [2]


def test_labels_may_be_none_and_are_never_words():
    X = np.concatenate(
        [np.random.default_rng(0).normal(size=(40, 2)), np.random.default_rng(1).normal(size=(40, 2)) + 8]
    )
    y = [0] * 5 + [None] * 70 + [1] * 5
    known = GaussianMixture(random_state=0).fit(X, [-100 if each is None else each for each in y])
    np.testing.assert_array_equal(GaussianMixture(random_state=0).fit(X, y).predict(X), known.predict(X))
    with pytest.raises(InputError, match="give whole numbers"):
        GaussianMixture(random_state=0).fit(X, ["cat"] * 80)
