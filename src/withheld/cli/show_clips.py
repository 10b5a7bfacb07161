"""show, of methods of clips: windows of a few clips, what is hidden of them, and with a run what it tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

SPARE = 3
"""Clips are drawn from so many times more, because some may be broken or too short."""


def of_clips(
    folder: Path | None,
    method: str,
    settings: dict[str, Any],
    data: str,
    items: int,
    size: str | int,
    seed: int,
    device: str,
) -> tuple[Any, ...]:
    """What a method hides of some clips, or what a run tells of them: split or objective, clips in 0..1, names, mean, std."""
    import numpy as np
    import torch

    from withheld.asked import Asked
    from withheld.data.moving import is_moving
    from withheld.data.sample import spread
    from withheld.data.video import open_videos
    from withheld.errors import InputError
    from withheld.evaluate.frame_error import in_pixels
    from withheld.modalities.video import Videos
    from withheld.run import load_method, open_run, split_settings
    from withheld.types import Recipe

    run = None if folder is None else open_run(folder)
    if run is not None and run.settings["method"] != method:
        raise InputError(f"{folder} was trained with {run.settings['method']}, not {method}: name that method")
    asked = Asked(size=size, seed=seed, settings=settings)
    if run is not None:
        about = run.settings["data"]
        fed = {name: about[name] for name in ("frames", "rate", "motion")}
        asked = replace(Asked.from_json(run.settings["given"]), size=about["size"], settings=fed)
    source: Any = data
    if not is_moving(data):
        source = open_videos(data)
        chosen = np.random.default_rng(seed).permutation(len(source))[: SPARE * items]
        source = source.subset(np.sort(chosen))
    modality = Videos(source, asked, torch.device(device), lambda kind, **event: None)
    trunk = modality.open(method)
    recipe = Recipe()
    if run is None:
        mine, _ = split_settings(load_method(method), settings)
        objective, recipe = load_method(method)(trunk, **mine)
    else:
        objective = run.objective().to(device)
        modality.mean, modality.std = list(run.settings["mean"]), list(run.settings["std"])
    modality.feed(recipe)
    every, mean, std = modality.every, modality.mean or [0.0] * 3, modality.std or [1.0] * 3
    if run is None:
        objective.to(device).fit_parts(modality.sample)
    at = spread(len(every), items)
    clips = in_pixels(every.batch(at, device), mean, std).clamp(0, 1)
    return objective.split if run is None else objective, clips, every.names(at), mean, std
