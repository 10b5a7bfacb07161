"""The rules by which vitals are judged, one function a vital: value, state, reason and cure. No torch.

A rule returns None where it does not apply. Limits are wide: what is called sick must be, also in runs of a few hundred steps on
little data; tests/learn/test_illness.py induces every illness, and docs/health.md says what healthy recipes reach.
"""

from __future__ import annotations

import math

from withheld.learn.illness import NOT_YET, OK, ORDER, SICK, WARN, Case, Finding, Rule
from withheld.wording import about


def features(case: Case) -> Finding | None:
    """Total and dimensional collapse of the kept encoder's features, or of the two views that a loss compares."""
    rank, spread = case.now("effective_rank"), case.now("feature_spread")
    if rank is None or spread is None or case.facts.width < 4 or case.now("kl") is not None:
        return None  # of a posterior's means the KL tells more
    most, began = case.facts.most_dimensions, case.known("effective_rank")[0]
    value = f"{rank:.1f} of {most} dimensions, spread {spread:.2g}"
    if case.early():
        return Finding("features", NOT_YET, value)
    cut = slower(case, 10)
    view = case.now("view_spread") if case.now("target_spread") is None else case.now("target_spread")
    if spread < 0.004 or (view is not None and view < 0.05):
        if case.known("feature_spread")[0] < 0.004:  # nothing was lost, so smaller steps bring nothing back
            return Finding(
                "features", SICK, value, "alike from the start",
                f"all items have the same features (spread {spread:.2g}; about 1 is healthy), and had them at the first checkup: "
                "the items are alike, or the encoder that the run goes on from tells nothing apart",
                "look at the items (withheld check DATA); where they differ, begin from another encoder or from scratch",
            )  # fmt: skip
        where = f"spread {spread:.2g}" if spread < 0.004 else f"views spread {view:.2g}"
        return Finding(
            "features", SICK, value, "collapse",
            f"all items have the same features ({where}; about 1 is healthy): nothing tells them apart",
            f"{cut}; a loss that only pulls views together needs negatives, a stopped gradient or a variance term",
        )  # fmt: skip
    views = case.known("view_rank")
    low = max(3.0 if most > 16 else 2.0, 0.03 * most)
    for what, now, start in (("features", rank, began), ("views", case.now("view_rank"), views[0] if views else 0.0)):
        if now is not None and now < low and now < 0.35 * start:
            return Finding(
                "features", SICK, value, "dimensional collapse",
                f"{what} live in {now:.1f} of {most} dimensions, they began in {start:.1f}",
                f"{cut}; or raise the weight of the term that keeps dimensions apart (variance, covariance), the batch or the "
                "temperature; or weaken the augmentations",
            )  # fmt: skip
        if now is not None and now < 0.06 * most and now < 0.35 * start:
            return Finding(
                "features", WARN, value, "dimensional collapse",
                f"{what} live in {now:.1f} of {most} dimensions, they began in {start:.1f}", cut,
            )  # fmt: skip
    return Finding("features", OK, value)


def quality(case: Case) -> Finding | None:
    """RankMe, the label-free score of downstream quality, and alpha-ReQ: told, not judged."""
    rank, alpha = case.now("effective_rank"), case.now("alpha_req")
    if rank is None:
        return None
    began, beside = case.known("effective_rank")[0], "" if alpha is None else f", alpha-ReQ {alpha:.2f}"
    return Finding("quality without labels", OK, f"RankMe {rank:.1f} (at the start {began:.1f}){beside}")


def teacher(case: Case) -> Finding | None:
    """A teacher over prototypes that says nothing, or the same of every item."""
    entropy, usage, most = case.now("teacher_entropy"), case.now("prototypes_entropy"), case.now("ln_k")
    if entropy is None or usage is None or not most:
        return None
    count = math.exp(most)
    value = f"entropy {entropy:.2f}, of the mean {usage:.2f}, at most ln {count:.0f} = {most:.2f}"
    if case.early():
        return Finding("teacher", NOT_YET, value)
    if entropy > 0.97 * most:
        return Finding(
            "teacher", SICK, value, "uniform teacher",
            f"the teacher's answers are uniform: entropy {entropy:.3f} nats, ln {count:.0f} is {most:.3f}; they say nothing",
            f"lower the teacher's temperature (to half), slow the centering down (momentum 0.9 to 0.99), or {slower(case, 3)}",
        )  # fmt: skip
    if usage < max(0.05 * most, math.log(1.5)):
        return Finding(
            "teacher", SICK, value, "one cluster",
            f"the teacher answers {math.exp(usage):.1f} of {count:.0f} prototypes for all items together: they are one cluster",
            f"center the teacher's answers (momentum 0.9), raise its temperature (times 1.5), or {slower(case, 3)}",
        )  # fmt: skip
    return Finding("teacher", OK, value)


def latents(case: Case) -> Finding | None:
    """A posterior that equals its prior: z is not used."""
    kl = case.now("kl")
    if kl is None:
        return None
    kl = max(0.0, kl)
    active, width = case.now("active_units"), case.facts.width
    used = f", {active:.0f}{f' of {width}' if width else ''} units active" if active is not None else ""
    value = f"KL {kl:.3g} nats{used}"
    if case.early(steps=40):
        return Finding("latents", NOT_YET, value)
    if kl < 0.1 or active == 0:
        return Finding(
            "latents", SICK, value, "posterior collapse",
            f"the KL is {kl:.2g} nats{used}: z says nothing of the item, and the decoder does without it", _latent_cure(case),
        )  # fmt: skip
    if kl < 0.5:
        return Finding(
            "latents", WARN, value, "posterior collapse", f"the KL is {kl:.2g} nats: z says little", _latent_cure(case)
        )
    return Finding("latents", OK, value)


def _latent_cure(case: Case) -> str:
    beta = float(case.facts.given.get("beta", 1.0))
    ways = {
        "beta": f"--set beta={beta / 10:g}" if beta > 1 else "",
        "annealing": "--set annealing=cyclical",
        "warmup": f"--set warmup={min(0.5, 3 * float(case.facts.given.get('warmup', 0.1))):g}",
        "free_bits": "--set free_bits=0.1",
        "word_dropout": "--set word_dropout=0.6",
    }
    mine = [way for name, way in ways.items() if way and name in case.facts.knows]
    known = (
        ", or ".join(mine)
        or "let its weight rise from 0 over a third of the run, or give every dimension 0.1 nats free"
    )
    return f"give the KL less weight at first: {known}"


def codes(case: Case) -> Finding | None:
    """Codes that nothing is assigned to."""
    names = sorted(n.removesuffix("_perplexity") for n in case.checkups[-1].vitals if n.endswith("_perplexity"))
    found = [one for name in names if (one := _book(case, name)) is not None]
    return max(found, key=lambda one: ORDER.index(one.state), default=None)


def _book(case: Case, name: str) -> Finding | None:
    used, dead, many = (case.now(f"{name}_{what}") for what in ("perplexity", "dead_codes", "codes"))
    if used is None or dead is None or not many:
        return None
    value = f"{name}: perplexity {used:.1f} of {many:.0f}, {dead:.0f} dead"
    if case.early(steps=40):
        return Finding("codes", NOT_YET, value)
    cure = (
        f"start dead codes anew at vectors of a batch (--on-sick fix does), take fewer (--set codes={max(8, many // 4):.0f}), "
        f"or {slower(case, 3)}"
    )
    some = f"{dead:.0f} of {many:.0f} codes of the {name} book are never chosen, the others"
    uneven = f"the {many:.0f} codes of the {name} book are chosen so unevenly that they"  # a running mean tells none dead at first
    reason = f"{some if dead >= 0.2 * many else uneven} are worth {used:.1f}"
    if dead >= 0.5 * many or used < max(1.5, 0.03 * many):
        return Finding("codes", SICK, value, "dead codes", reason, cure)
    if dead >= 0.2 * many or used < 0.06 * many:
        return Finding("codes", WARN, value, "dead codes", reason, cure)
    return Finding("codes", OK, value)


def components(case: Case) -> Finding | None:
    """A component of a mixture that has shrunk onto a few rows, or has none."""
    weight, root = case.now("smallest_weight"), case.now("smallest_determinant")
    if weight is None:
        return None
    rows = weight * case.facts.items
    value = f"smallest weight {weight:.2g} ({about(rows, 'row')})" + (
        "" if root is None else f", smallest determinant {root:.2g}"
    )
    fewer = "take fewer components (--set components=auto lets the evidence choose)"
    if root is not None and (root < 1e-5 or (root < 1e-3 and rows < case.facts.columns + 1)):
        regularization = float(case.facts.given.get("regularization", 1e-6))
        return Finding(
            "components", SICK, value, "singular component",
            f"a component is {root:.1g} as wide as the data (D-th root of the determinant): it stands on a few equal rows, and its "
            "likelihood is without bound",
            f"raise --set regularization={max(1e-3, 100 * regularization):g}, {fewer}, --set covariance=diag, or remove equal rows",
        )  # fmt: skip
    if rows < 1 and case.now("components_kept") is None:
        return Finding(
            "components", WARN, value, "dead component", f"a component answers for {about(rows, 'row')}", fewer
        )
    return Finding("components", OK, value)


def slower(case: Case, times: float) -> str:
    """The cure that most have in common, with its number."""
    return f"lower the learning rate: --set base_learning_rate={case.facts.rate / times:.1g}"


OF_MODELS: tuple[Rule, ...] = (features, quality, teacher, latents, codes, components)
