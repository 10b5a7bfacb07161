"""Rules for what goes in, and for how training goes. No torch; see `learn/rules.py`."""

from __future__ import annotations

import math

from withheld.learn.illness import NOT_YET, OK, SICK, WARN, Case, Finding, Rule
from withheld.learn.rules import OF_MODELS, slower

FEW_HELD_OUT = 4
"""A loss of all items of a step says little of a sample that many times smaller."""


def inputs(case: Case) -> Finding | None:
    """Values of another scale than the network was made for."""
    mean, deviation = case.last("input_mean"), case.last("input_deviation")
    if mean is None or deviation is None:
        return None
    value = f"mean {mean:.3g}, deviation {deviation:.3g}"
    wanted = "mean 0 and deviation 1" if case.facts.normalized else "values in 0..1"
    reason = f"what goes in has mean {mean:.3g} and deviation {deviation:.3g}; the network is made for {wanted}"
    cure = (
        "divide bytes by 255 once, then subtract the mean and divide by the deviation of the data; check that it is not done "
        "twice, and that a checkpoint gets the mean and deviation it was trained with"
    )
    low, high = (0.05, 6.0) if case.facts.normalized else (0.003, 2.0)
    if not low < deviation < high or abs(mean) > 4:
        return Finding("input", SICK, value, "wrong normalization", reason, cure)
    if case.facts.normalized and (not 0.3 < deviation < 3 or abs(mean) > 1.5):
        return Finding("input", WARN, value, "wrong normalization", reason, cure)
    return Finding("input", OK, value)


def copies(case: Case) -> Finding | None:
    """Items that are there several times."""
    found = case.last("copies")
    if found is None:
        return None
    count = f"{found:,.0f}" if found >= 10 else f"{found:.2g}"
    value = f"{count} near-copies of an item"
    reason = (
        f"an item has {count} near-copies among the others: about {case.facts.items / (1 + found):,.0f} of "
        f"{case.facts.items:,} are different; epochs are counted too low, and losses that tell items apart cannot"
    )
    cure = "remove duplicates (of frames of a video keep every tenth), and give the run fewer epochs"
    if found >= 0.7:
        return Finding("copies", SICK, value, "duplicated data", reason, cure)
    if found >= 0.2:
        return Finding("copies", WARN, value, "duplicated data", reason, cure)
    return Finding("copies", OK, value)


def hidden_part(case: Case) -> Finding | None:
    """So little is hidden that neighbors tell it, or so much that nothing is left to tell from."""
    share = case.last("hidden_share")
    if share is None:
        return None
    words = case.facts.modality == "text"
    value = f"{100 * share:.1f} % is hidden"
    usual = _usual_share(case)
    cure = f"hide more{usual}"
    least, little = (0.02, 0.07) if words else (0.1, 0.3)
    reason = f"only {100 * share:.1f} % is hidden: looking next to it tells it, and nothing else needs to be learned"
    if share < least:
        return Finding("hidden part", SICK, value, "hardly anything hidden", reason, cure)
    if share < little:
        return Finding("hidden part", WARN, value, "hardly anything hidden", reason, cure)
    if share > 0.97:
        return Finding(
            "hidden part", WARN, value, "hardly anything seen", f"{100 * share:.1f} % is hidden: little is left to tell it from",
            f"hide less{usual}",
        )  # fmt: skip
    return Finding("hidden part", OK, value)


def _usual_share(case: Case) -> str:
    """How what is usual is asked of the method, ": --set ..."; nothing of one that has no setting for it."""
    ways = {
        "ratio": f"ratio={0.9 if case.facts.modality == 'video' else 0.75:g}", "rate": "rate=0.3",
        "share": "share=0.15 --set blocks=4",
    }  # fmt: skip
    return next((f": --set {way}" for name, way in ways.items() if name in case.facts.knows), "")


def motion(case: Case) -> Finding | None:
    """Clips in which nothing moves."""
    found = case.last("motion")
    if found is None:
        return None
    value = f"frames differ by {100 * found:.2g} % of the variance"
    reason = f"neighboring frames differ by {100 * found:.2g} % of the pixels' variance: copying the frame before is the whole task"
    cure = (
        "give clips with motion, take fewer frames a second (--set rate=4), or keep what moves most (--set motion=0.5)"
    )
    if found < 5e-4:
        return Finding("motion", SICK, value, "static video", reason, cure)
    if found < 3e-3:
        return Finding("motion", WARN, value, "static video", reason, cure)
    return Finding("motion", OK, value)


def targets(case: Case) -> Finding | None:
    """Targets that stand beside other items than their own."""
    share = case.last("targets_belong")
    if share is None:
        return None
    value = f"{100 * share:.0f} % of those tried belong to their item"
    if share < 0.5:
        return Finding(
            "targets", SICK, value, "shuffled targets",
            "when an item is exchanged, the target of another moves: teacher and student see different items",
            "keep the order of the batch in split, views and teacher: row i of the target is of item i",
        )  # fmt: skip
    return Finding("targets", OK, value)


def leak(case: Case) -> Finding | None:
    """An answer that is known without looking at the item: from its number, its name, its label."""
    blind, floor = case.now("blind_loss"), case.now("constant_loss")
    loss = case.now("held_out_loss") if case.now("sample_loss") is None else case.now("sample_loss")
    if blind is None or loss is None or floor is None:
        return None
    value = f"loss {loss:.3g}, {blind:.3g} with another item in its place, {floor:.3g} of a constant answer"
    if case.early():
        return Finding("leak", NOT_YET, value)
    learned, without = floor - loss, floor - blind
    if without > 0.1 * abs(floor) and without > 0.3 * learned:
        return Finding(
            "leak", SICK, value, "answers leak",
            f"with another item in its place the loss is {blind:.3g} ({loss:.3g} with its own, a constant answer has {floor:.3g}): "
            "the answer comes from the number, file name or label that goes in beside the item",
            "take the number and everything made from file and folder names out of x, or shuffle the names",
        )  # fmt: skip
    return Finding("leak", OK, value)


def rate(case: Case) -> Finding | None:
    """Steps so long that they throw away what was learned."""
    ratio, loss = case.now("update_ratio"), case.now("loss")
    if ratio is None or loss is None:
        return None
    value = f"a step changes weights by {100 * ratio:.2g} %"
    unwarmed = case.unwarmed()
    cure = slower(case, 10 if ratio > 0.1 else 3) + ", or give it a longer warm-up: --set warmup=0.2"
    fixed, before = case.known("held_out_loss") or case.known("sample_loss"), case.known("loss")[0]
    together, epoch = case.last("at_once") is not None, case.checkups[-1].epoch
    # after an epoch only what is held out may have lost: learned by heart
    unseen = epoch is not None and epoch < 1 and not together
    risen = bool(fixed) and fixed[-1] > 1.5 * fixed[0] > 0 and (loss > before or unseen)
    if together and case.facts.batch not in (0, case.facts.sample):
        before = math.inf  # a loss of all items of a step is another one of more items
    if fixed and case.last("moving_target") is None and (risen or 0 < 5 * before < fixed[-1]):
        began = min(fixed[0], before) if fixed[0] > 5 * before else fixed[0]
        return Finding(
            "learning rate", WARN if unwarmed else SICK, value, "learning rate too large",
            f"the loss rose from {began:.3g} to {fixed[-1]:.3g}: steps overshoot", cure,
        )  # fmt: skip
    if ratio > 0.07 and unwarmed:
        return Finding("learning rate", NOT_YET, f"{value}; the run is too short for a warm-up")
    if ratio > 0.07 and case.beginning():
        return Finding("learning rate", NOT_YET, f"{value}; these are the first steps of a short run")
    if ratio > 0.1:
        return Finding(
            "learning rate", SICK, value, "learning rate too large",
            f"every step changes the weights by {100 * ratio:.2g} % of their size; below 3 % is healthy", cure,
        )  # fmt: skip
    constant = case.now("constant_loss")
    if ratio > 0.03 and fixed and constant and fixed[-1] > constant and not case.early(0.08, 8):
        return Finding(
            "learning rate", SICK, value, "learning rate too large",
            f"every step changes the weights by {100 * ratio:.2g} % of their size, and the loss, {fixed[-1]:.3g}, is above that of "
            f"a constant answer, {constant:.3g}", cure,
        )  # fmt: skip
    if ratio > 0.07:
        return Finding(
            "learning rate", WARN, value, "learning rate too large",
            f"every step changes the weights by {100 * ratio:.2g} % of their size", cure,
        )  # fmt: skip
    return Finding("learning rate", OK, value)


def gradients(case: Case) -> Finding | None:
    """Gradients that vanish or explode."""
    norms = case.known("gradient_norm")
    if not norms or case.now("gradient_norm") is None or not case.facts.width:
        return None
    value = f"norm {norms[-1]:.2g} (at the start {norms[0]:.2g})"
    if norms[-1] < 1e-7:
        return Finding(
            "gradients", SICK, value, "no gradient", f"the norm of the gradient is {norms[-1]:.1g}: nothing is learned any more",
            f"check that the loss depends on the network and that no unit is saturated; {slower(case, 10)}",
        )  # fmt: skip
    if case.early():
        return Finding("gradients", NOT_YET, value)
    if norms[-1] > 100 * max(norms[0], 0.1):
        return Finding(
            "gradients", WARN, value, "gradients explode", f"the norm rose from {norms[0]:.2g} to {norms[-1]:.2g}",
            f"--set clip=1, or {slower(case, 3)}",
        )  # fmt: skip
    return Finding("gradients", OK, value)


def knowledge(case: Case) -> Finding | None:
    """The loss beside that of an answer that is the same for every item, or that only counts words."""
    loss = next(
        (v for v in (case.now(n) for n in ("masked_loss", "held_out_loss", "sample_loss")) if v is not None), None
    )
    floor, what = case.now("constant_loss"), "the best constant answer"
    if case.facts.unigram is not None and case.now("kl") is None:  # nats a token; a bound is of whole sentences
        floor, what = case.facts.unigram, "counting words"
    copied = case.now("copy_last_error")
    if copied is not None and (floor is None or copied < floor):
        floor, what = copied, "copying the last frame"
    error = case.now("error_over_variance")
    if error is not None:
        loss, floor, what = error, 1.0, "the mean of all images"
    if loss is None or floor is None or floor <= 0 or loss < 0:
        return None
    value = f"loss {loss:.3g}, {what} has {floor:.3g}"
    if case.early(0.2, 100):
        return Finding("knowledge", NOT_YET, value)
    if loss > 0.995 * floor:
        return Finding(
            "knowledge", WARN, value, "no better than guessing", f"the loss is {loss:.3g}; {what} has {floor:.3g}",
            f"give it more steps; if the loss does not fall at all, --set base_learning_rate={3 * case.facts.rate:.1g}, or a ninth",
        )  # fmt: skip
    return Finding("knowledge", OK, value)


def by_heart(case: Case) -> Finding | None:
    """Held-out loss that rises while the training's falls."""
    held, seen = case.known("held_out_loss"), case.known("loss")
    if case.last("moving_target") is not None:
        return None  # a teacher that gets better asks more
    if not held or len(held) < 4 or len(seen) < 4:
        return None
    best, learned = min(held), held[0] - min(held)
    rise = held[-1] - best
    value = f"held out {held[-1]:.3g} (best {best:.3g}), training {seen[-1]:.3g}"
    epoch = case.checkups[-1].epoch
    if epoch is not None and epoch < 1:
        return Finding("overfitting", NOT_YET, value)  # no item was seen twice: there is nothing to know by heart
    if case.last("at_once") is not None and 0 < FEW_HELD_OUT * case.facts.sample < case.facts.batch:
        return None  # covariances, and how many others there are to tell from, are others of so few
    if best > 0 and rise > 0.1 * max(best, learned) and seen[-1] < min(seen[: len(seen) // 2]):
        state = SICK if rise > 0.4 * max(best, learned) else WARN
        return Finding(
            "overfitting", state, value, "learned by heart",
            f"held-out loss rose from {best:.3g} to {held[-1]:.3g} while the training's fell to {seen[-1]:.3g}: learned by heart",
            "stop earlier (a third of the epochs), give more items, a smaller network, or more decay: --set weight_decay=0.2",
        )  # fmt: skip
    return Finding("overfitting", OK, value)


def waiting(case: Case) -> Finding | None:
    """Time that is spent waiting for items."""
    share = case.now("data_wait")
    if share is None:
        return None
    value = f"{100 * share:.0f} % of the time"
    if share > 0.4 and case.step >= 20:
        cure = "put the prepared cache on a local disk (WITHHELD_CACHE), give the run more memory, or a smaller --size"
        if case.facts.streamed and case.facts.modality == "text":  # nothing is prepared
            cure = "tokenize on more processors, or leave out --stream where the tokens (2 bytes each) fit the disk"
        return Finding(
            "waiting for data", WARN, value, "slow data", f"{100 * share:.0f} % of the time goes into reading items", cure
        )  # fmt: skip
    return Finding("waiting for data", OK, value)


RULES: tuple[Rule, ...] = (
    *OF_MODELS, knowledge, by_heart, rate, gradients, inputs, hidden_part, motion, targets, copies, leak, waiting,
)  # fmt: skip
