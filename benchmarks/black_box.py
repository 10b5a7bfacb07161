"""Black-box inference beside pyro's AutoNormal and AutoMultivariateNormal: whose bound is better after equal time?

    pip install pyro-ppl && python benchmarks/black_box.py

Every bound is measured with 10,000 fresh samples; gaps are to log p(x), which is known (eight schools: by integration
over mu and log tau).
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from withheld import infer

SCHOOLS_Y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SCHOOLS_S = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
SECONDS, SEEDS = (3.0,), (0, 1, 2)
LOG_2PI = math.log(2 * math.pi)


def normal(x, mean, log_scale):
    """log N(x; mean, scale)."""
    return -0.5 * ((x - mean) / torch.exp(torch.as_tensor(log_scale))) ** 2 - log_scale - 0.5 * LOG_2PI


def four_modes(z):
    corners = torch.tensor([[4.0, 4.0], [4.0, -4.0], [-4.0, 4.0], [-4.0, -4.0]])
    return torch.logsumexp(-0.5 * ((z[:, None] - corners) ** 2).sum(dim=2), dim=1) - LOG_2PI - math.log(4)


def banana(z):
    return normal(z[:, 0], 0.0, math.log(2)) + normal(z[:, 1], 0.5 * z[:, 0] ** 2 - 2, 0.0)


def funnel(z):
    return normal(z[:, 0], 0.0, math.log(3)) + normal(z[:, 1:], 0.0, z[:, :1] / 2).sum(dim=1)


def eight_schools(z):
    """Non-centered (Rubin 1981, Gelman et al. 2013): mu ~ N(0, 5), tau ~ half-Cauchy(5), theta = mu + tau * eta."""
    mu, log_tau, eta = z[:, 0], z[:, 1], z[:, 2:]
    tau = log_tau.exp()
    prior = normal(mu, 0.0, math.log(5)) + math.log(2 / math.pi / 5) - torch.log1p((tau / 5) ** 2) + log_tau
    theta = mu[:, None] + tau[:, None] * eta
    return prior + normal(eta, 0.0, 0.0).sum(dim=1) + normal(SCHOOLS_Y, theta, SCHOOLS_S.log()).sum(dim=1)


def schools_reference() -> tuple[float, tuple[float, float], float]:
    """log p(y), posterior mean and deviation of mu, mean of tau: theta integrates out, the other two on a fine grid."""
    mu = torch.linspace(-40, 50, 1201, dtype=torch.float64)[:, None]
    log_tau = torch.linspace(-9, 7, 1601, dtype=torch.float64)[None]
    tau = log_tau.exp()
    joint = normal(mu, 0.0, math.log(5)) + math.log(2 / math.pi / 5) - torch.log1p((tau / 5) ** 2) + log_tau
    for y, s in zip(SCHOOLS_Y.double(), SCHOOLS_S.double(), strict=True):
        joint = joint + normal(y, mu, 0.5 * torch.log(s**2 + tau**2))
    cell = (mu[1, 0] - mu[0, 0]) * (log_tau[0, 1] - log_tau[0, 0])
    evidence = torch.logsumexp(joint.flatten(), dim=0) + cell.log()
    weight = (joint - torch.logsumexp(joint.flatten(), dim=0)).exp()
    mean = float((weight * mu).sum())
    deviation = float((weight * (mu - mean) ** 2).sum().sqrt())
    return float(evidence), (mean, deviation), float((weight * tau).sum())


def logistic_regression():
    """Breast cancer (ships with scikit-learn): standardized, N(0, 1) priors; returns log_joint and D."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    x = torch.from_numpy((x - x.mean(axis=0)) / x.std(axis=0)).float()
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    sign = torch.from_numpy(2.0 * y - 1).float()

    def log_joint(z):
        return torch.nn.functional.logsigmoid(sign * (z @ x.T)).sum(dim=1) + normal(z, 0.0, 0.0).sum(dim=1)

    return log_joint, x.shape[1]


def pyro_bound(log_joint, dimensions: int, guide_name: str, seconds: float, seed: int) -> float:
    """Minus its ELBO after so many seconds of SVI with Adam, the learning rate that is usual there."""
    import pyro
    import pyro.distributions as dist
    from pyro.infer import SVI, Trace_ELBO
    from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

    pyro.clear_param_store()
    pyro.set_rng_seed(seed)

    def model():
        z = pyro.sample("z", dist.Normal(torch.zeros(dimensions), torch.ones(dimensions)).to_event(1))
        pyro.factor("model", log_joint(z[None])[0] - dist.Normal(0.0, 1.0).log_prob(z).sum())

    guide = {"AutoNormal": AutoNormal, "AutoMultivariateNormal": AutoMultivariateNormal}[guide_name](model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO(num_particles=4))
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        svi.step()
    with torch.no_grad():
        posterior = guide.get_posterior() if guide_name == "AutoMultivariateNormal" else None
        if posterior is None:
            median = guide.median()["z"]
            scale = guide.scales.z if hasattr(guide, "scales") else None
            posterior = dist.Normal(guide.locs.z if scale is not None else median, scale).to_event(1)
        z = posterior.sample((10_000,))
        return float((log_joint(z) - posterior.log_prob(z)).mean())


def our_bound(
    log_joint, dimensions: int, family: str, components: int, seconds: float, seed: int
) -> tuple[float, float]:
    """The bound of as many steps as fit into the time, and k-hat."""
    begun = time.perf_counter()
    infer(log_joint, dimensions, family=family, components=components, steps=60, seed=seed)
    each = (time.perf_counter() - begun) / 60
    found = infer(
        log_joint, dimensions, family=family, components=components, steps=max(50, int(0.8 * seconds / each)), seed=seed
    )
    return found.elbo, found.k_hat


def main() -> None:
    evidence, mu, tau = schools_reference()
    print(f"eight schools by integration: log p(y) {evidence:.4f}, mu {mu[0]:.2f} ± {mu[1]:.2f}, tau {tau:.2f}")
    regression, width = logistic_regression()
    targets = {
        "four modes": (four_modes, 2, 0.0), "banana": (banana, 2, 0.0), "funnel": (funnel, 3, 0.0),
        "eight schools": (eight_schools, 10, evidence), "logistic regression": (regression, width, 0.0),
    }  # fmt: skip
    for seconds in SECONDS:
        for name, (log_joint, dimensions, known) in targets.items():
            told = "log p(x) - bound" if name != "logistic regression" else "minus bound"
            print(f"{name}, {seconds:g} s, {told}, mean over {len(SEEDS)} seeds (largest)")
            for family, components in (("factorized", 1), ("full_rank", 1), ("mixture", 4), ("full_rank_mixture", 4)):
                runs = [our_bound(log_joint, dimensions, family, components, seconds, seed) for seed in SEEDS]
                gaps = [known - bound for bound, _ in runs]
                print(
                    f"  withheld {family:18s} {np.mean(gaps):9.4f} ({max(gaps):.4f}), k-hat {np.mean([k for _, k in runs]):.2f}",
                    flush=True,
                )
            for guide in ("AutoNormal", "AutoMultivariateNormal"):
                gaps = [known - pyro_bound(log_joint, dimensions, guide, seconds, seed) for seed in SEEDS]
                print(f"  pyro {guide:22s} {np.mean(gaps):9.4f} ({max(gaps):.4f})", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
