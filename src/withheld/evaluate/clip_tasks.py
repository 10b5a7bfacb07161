"""How well a run on clips does what it was trained for, on clips it has not seen, beside what needs no network.

Shapes: W windows, B batch, T frames, C channels, H W pixels, U told frames.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.data.sample import spread
from withheld.errors import InputError
from withheld.evaluate.features import Listen, silent
from withheld.evaluate.frame_error import MEASURES, beside, frame_errors, in_pixels
from withheld.evaluate.held_clips import HeldClips, held_clips, named_run
from withheld.evaluate.measured import Measured
from withheld.evaluate.pictures import keep
from withheld.evaluate.video_pictures import task_entries
from withheld.learn.schedule import seed_everything
from withheld.losses.prediction import BinaryCrossEntropy, ColorCopied
from withheld.motion import camera_motion, moving_places, pairwise_differences, told_from
from withheld.networks.next_frame import FramePredictor
from withheld.run import Run, pick_device
from withheld.wording import percent, plain, plural

DRAWS, FOLDS, DRAWN = 8, 5, 6
CONVENTIONS = (
    "MSE, sum: squared error summed over the pixels of a frame, averaged over channels, the convention of Moving MNIST's tables; "
    "MSE x 1000: its mean over pixels, of values in 0..1. What is told is clipped to 0..1. Moving: within 3 pixels of one that "
    "changes by more than 0.05 from the frame before; frames where nothing moves are left out there. SSIM: Gaussian window of 11, "
    "deviation 1.5."
)


def evaluate_clips(
    run: str | Path | Run, data: Any = None, *, windows: int | None = None, device: str = "auto",
    results: Path | None = None, pictures: Path | None = None, command: str = "", listen: Listen = silent,
) -> Measured:  # fmt: skip
    """Measures what a run was trained for on clips it has not seen.

    next_frame: squared error in both conventions, PSNR and SSIM, beside copying the last frame and the mean frame; frame_order and
    arrow_of_time: the share that is told right, with its interval over clips, beside what a few differences tell; track_color: the
    share of colors that is told right, beside those of the same place.

    Args:
        run: its folder. data: clips without labels; None takes those that the run held out. windows: measured at most.
        results: a results.jsonl to append to. pictures: a run folder to draw into.

    Raises:
        InputError: the run is of another kind or held nothing out; the data. CannotWrite: for the results.
    """
    run = named_run(run)
    held = held_clips(run, data, pick_device(device), listen, windows)
    objective, seed = held.objective, int(run.settings["seed"])
    if isinstance(objective.network, FramePredictor):
        found = _frames(held, listen)
    elif isinstance(objective.loss, BinaryCrossEntropy):
        found = _answers(held, seed, listen)
    elif isinstance(objective.loss, ColorCopied):
        found = _colors(held, seed, listen)
    else:
        raise InputError(
            f"{run.folder}: {run.settings['title']} is judged by what its encoder is good for: withheld evaluate RUN --data "
            "LABELLED, or --davis DIR"
        )
    found.notes.extend(held.notes)
    if pictures is not None:
        few = held.chosen[spread(len(held.chosen), DRAWN)]
        entries = task_entries(objective, held.items.batch(few, held.device), held.items.names(few), held)
        keep(pictures, entries)
    if results is not None:
        found.add_to(results, data=held.said, seed=seed, command=command)
    return found


@torch.no_grad()
def _frames(held: HeldClips, listen: Listen) -> Measured:
    parts: dict[str, dict[str, list[Tensor]]] = {}
    for rows, t in held.batches():
        pair = held.objective.split(t)
        true, given = (in_pixels(part, held.mean, held.std) for part in (pair.y, pair.x))
        moving = moving_places(true, given[:, -1])
        told = beside(in_pixels(held.objective.network(pair.x), held.mean, held.std), given)
        for name, frames in told.items():
            for measure, value in frame_errors(frames, true, moving).items():
                parts.setdefault(name, {}).setdefault(measure, []).append(value.cpu())
        listen({"kind": "likelihood", "done": rows.stop, "total": len(held.chosen)})
    values = {name: {m: torch.cat(v).numpy() for m, v in of.items()} for name, of in parts.items()}
    return told_frames(values, held, true.shape[-1])


def told_frames(values: dict[str, dict[str, NDArray[np.floating]]], held: HeldClips, side: int) -> Measured:
    """The table and the sentence of `next_frame`."""
    numbers, rows = {}, []
    for name, of in values.items():
        found = {measure: held.mean_of(of[measure]) for measure in MEASURES}
        by_frame = {f"MSE, sum, frame {u + 1}": held.mean_of(each)[0] for u, each in enumerate(of["by frame"].T)}
        numbers[name] = {m: mean for m, (mean, _) in found.items()} | by_frame
        first, last = (
            list(by_frame.values())[:: max(1, len(by_frame) - 1)][:2] if len(by_frame) > 1 else (math.nan,) * 2
        )
        spread = {"MSE, sum": f" ± {plain(float(format(found['MSE, sum'][1], '.2g')))}"}
        cells = [plain(mean) + spread.get(measure, "") for measure, (mean, _) in found.items()]
        rows.append([name, *cells, f"{first:.0f} to {last:.0f}"])
    ours, copy, mean = (held.mean_of(values[name]["MSE, sum"]) for name in values)
    gap, half = held.mean_of(values["this run"]["MSE, sum"] - values["copy the last frame"]["MSE, sum"])
    share = ours[0] / copy[0] if copy[0] else math.nan
    verdict = "closer to what came" if gap + half < 0 else "no closer to what came"
    sentence = (
        f"The frames told are {verdict} than copies of the last one: MSE {ours[0]:.1f} summed over a frame of {side}x{side}, "
        f"{share:.2f} times that of copying ({copy[0]:.1f}), {ours[0] / mean[0]:.2f} times that of the mean frame ({mean[0]:.1f}); "
        f"PSNR {numbers['this run']['PSNR']:.1f} dB, SSIM {numbers['this run']['SSIM']:.3f}; over {held.said}."
    )
    heads = [*MEASURES, "MSE, sum, first to last frame"]
    return Measured("clips", "Frames to come", heads, rows, sentence, [CONVENTIONS], numbers)


@torch.no_grad()
def _answers(held: HeldClips, seed: int, listen: Listen) -> Measured:
    """Yes or no of every window, several draws of each."""
    right = np.zeros((len(held.chosen), DRAWS))
    answers = np.zeros((len(held.chosen), DRAWS), np.int64)
    features: list[list[Tensor]] = [[] for _ in range(DRAWS)]
    for rows, t in held.batches():
        for draw in range(DRAWS):
            seed_everything(seed, rows.start, draw)
            pair = held.objective.split(t)
            right[rows, draw] = ((held.objective.network(pair.x) > 0) == (pair.y > 0)).cpu().numpy()
            answers[rows, draw] = pair.y.cpu().numpy()
            features[draw].append(_few_numbers(pair.x).cpu())
        listen({"kind": "likelihood", "done": rows.stop, "total": len(held.chosen)})
    clip = isinstance(pair.x, dict)
    simple = "the camera's motion" if clip else "differences of the three frames"
    floor = _by_folds(
        held, torch.stack([torch.cat(each) for each in features], dim=1).double().numpy(), answers, not clip
    )
    shares = {"this run": held.share_of(right.mean(axis=1)), simple: held.share_of((floor == answers).mean(axis=1))}
    chance = chance_of(held.objective.split)
    rows_of = [[name, percent(*share)] for name, share in shares.items()] + [["chance", f"{100 * chance:.0f}"]]
    asked = "runs forward or backward" if clip else "is in order"
    title = f"Whether a clip {asked}: told right, %"
    notes = [
        f"± is half the 95 % interval over {plural(held.clips, 'clip')}; {DRAWS} draws of every window. "
        f"{simple.capitalize()}: logistic "
        "regression on "
        + ("the camera's affine motion" if clip else "their three mean squared differences")
        + f", on {min(FOLDS, held.clips)} parts of these clips in turn, each not learned from."
    ]
    numbers = {name: {"share": mean, "half": half} for name, (mean, half) in shares.items()}
    sentence = answered(shares["this run"], shares[simple], simple, asked, held.said, chance)
    return Measured("clips", title, ["told right, %"], rows_of, sentence, notes, numbers)


def chance_of(split: Any) -> float:
    """What always giving the likelier answer tells right."""
    share = getattr(split, "positives", 0.5)
    return max(share, 1 - share)


def answered(
    ours: tuple[float, float], floor: tuple[float, float], simple: str, asked: str, said: str, chance: float = 0.5
) -> str:
    """The closing sentence, and whether the task is solved by a shortcut."""
    low, high = ours[0] - ours[1], ours[0] + ours[1]
    told = f"{100 * ours[0]:.1f} % of the clips told right (95 % CI {100 * low:.1f} to {100 * high:.1f})"
    start = (
        "More than chance"
        if low > chance
        else "No more than chance"
        if high < chance or not math.isnan(low)
        else "Not decided"
    )
    sentence = f"{start}: whether a clip {asked}, {told}, over {said}"
    if floor[0] - floor[1] > chance:
        sentence += (
            f"; a shortcut solves this task: from {simple} alone {100 * floor[0]:.1f} % are told right "
            f"(CI {100 * (floor[0] - floor[1]):.1f} to {100 * (floor[0] + floor[1]):.1f})"
        )
    else:
        sentence += f"; from {simple} alone {100 * floor[0]:.1f} %, no more than chance"
    return sentence + "."


def _few_numbers(x: Any) -> Tensor:
    return camera_motion(x["clip"]) if isinstance(x, dict) else pairwise_differences(x)


def _by_folds(held: HeldClips, features_WRD: NDArray[np.floating], answers_WR: NDArray[np.int64], free: bool) -> Any:
    """(W, R) answers of logistic regression, every clip's by what the others teach."""
    _, clip = np.unique(held.owners, return_inverse=True)
    fold = clip % FOLDS
    told = np.zeros_like(answers_WR)
    for one in np.unique(fold):
        here = fold == one
        if here.all():  # a single clip: nothing to learn from
            continue
        seen, width = features_WRD[~here], features_WRD.shape[2]
        told[here] = told_from(
            seen.reshape(-1, width), answers_WR[~here].ravel(), features_WRD[here].reshape(-1, width), free
        ).reshape(-1, answers_WR.shape[1])
    return told


@torch.no_grad()
def _colors(held: HeldClips, seed: int, listen: Listen) -> Measured:
    """Shares of places whose color is told right."""
    right: dict[str, NDArray[np.floating]] = {}
    names = ("this run", "same place, frame before", "commonest color")
    for name in names:
        right[name] = np.zeros(len(held.chosen))
    split: Any = held.objective.split
    counts = torch.zeros(split.clusters)
    for _, t in held.batches():
        counts += split.numbers_of(t).flatten().bincount(minlength=len(counts)).cpu()
    for rows, t in held.batches():
        seed_everything(seed, rows.start)
        pair = held.objective.split(t)
        told = {
            names[0]: held.objective.network(pair.x).argmax(dim=1), names[1]: pair.x["colors"][:, -1],
            names[2]: torch.full_like(pair.y, int(counts.argmax())),
        }  # fmt: skip
        for name, guess in told.items():
            right[name][rows] = (guess == pair.y).float().flatten(1).mean(dim=1).cpu().numpy()
        listen({"kind": "likelihood", "done": rows.stop, "total": len(held.chosen)})
    shares = {name: held.share_of(values) for name, values in right.items()}
    gap, half = held.share_of(right[names[0]] - right[names[1]])
    verdict = "better than" if gap - half > 0 else "worse than" if gap + half < 0 else "not told apart from"
    sentence = (
        f"Colors are told {verdict} those of the same place in the frame before: {100 * shares[names[0]][0]:.1f} % of the places, "
        f"a difference of {100 * gap:+z.1f} points (95 % CI {100 * (gap - half):z.1f} to {100 * (gap + half):z.1f}), "
        f"over {held.said}."
    )
    rows_of = [[name, percent(*share)] for name, share in shares.items()]
    notes = [f"± is half the 95 % interval over {plural(held.clips, 'clip')}."]
    numbers = {name: {"share": mean, "half": width} for name, (mean, width) in shares.items()}
    return Measured(
        "clips", "Colors of a grey frame: told right, %", ["told right, %"], rows_of, sentence, notes, numbers
    )
