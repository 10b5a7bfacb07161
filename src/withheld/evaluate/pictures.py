"""Pictures of a run for its report, and of any split on any items: drawn, not explained.

`draw_run` fills RUN/pictures; `show` draws one labelled grid. The same seed draws the same.

Shapes: N items, B batch, C channels, H W pixels, T frames, L tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from withheld.errors import InputError
from withheld.evaluate import atlas
from withheld.evaluate.atoms import atom_entries
from withheld.evaluate.canvas import (
    Tile,
    blank,
    enlargement,
    gif,
    item_tile,
    ladder,
    png,
    sheet,
    strip,
    tile,
    write_png,
    written,
)
from withheld.evaluate.latent_pictures import Latent, entry, latent_entries
from withheld.evaluate.parts import Column, columns_of, to_pixels, to_places
from withheld.evaluate.pretext_pictures import own_rows, pretext_entries
from withheld.image_encoder import ImageEncoder
from withheld.learn.checkpoint import replacing, writing
from withheld.networks.patch_dictionary import DictionaryLearner
from withheld.objective import Objective
from withheld.resize import at_size
from withheld.types import Pair, Split, as_split
from withheld.wording import plural

Subject = Split | Objective | Callable[[Any], Pair]

SAMPLES, SAMPLES_A_STRIP, SPLITS, MEASURED = 48, 6, 6, 256
LATENT_ITEMS = 500
HEADINGS = {"t": "t, the item", "x": "x, what is seen", "y": "y, what is hidden", "prediction": "prediction"}
RANKS = ["item", "nearest", "2nd", "3rd", "4th", "5th"]


def draw_run(
    objective: Objective | None,
    encoder: ImageEncoder,
    images: Any,
    names: Sequence[str],
    folder: str | Path,
    seed: int = 0,
) -> Path:
    """Draws samples, the split, nearest neighbors, patch features and a map into `folder`/pictures, with index.json.

    Takes about 10 s on two cores, whatever the size of the data: larger encoders look at fewer items.

    Args:
        objective: what was trained; None draws no split.
        encoder: what was kept.
        images: (N, C, H, W) uint8, memory-mapped or not.
        names: of the items.
        folder: the run folder.

    Returns:
        The folder of the pictures.
    """
    many = atlas.how_many(encoder, len(images))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:many])
    chosen = np.random.default_rng(seed + 1).permutation(chosen)  # so that the first few are a sample of all
    some = np.ascontiguousarray(np.stack([images[i] for i in chosen])) if many else np.zeros((0, 3, 1, 1), np.uint8)
    called = [str(names[i]) for i in chosen]
    if not many:
        return keep(Path(folder), [])
    pixels = to_pixels(torch.from_numpy(some).float() / 255, [0.0] * some.shape[1], [1.0] * some.shape[1])
    entries = _samples(pixels)
    if objective is not None:
        seen = _as_fed(encoder, some[:MEASURED])
        own = pretext_entries(objective, seen, SPLITS, called, seed)
        entries += own or _splits(objective, encoder, seen[:SPLITS], called, seed)
    if objective is not None and isinstance(objective.network, Latent):
        few = torch.from_numpy(some[:LATENT_ITEMS]).to(encoder.device)
        entries += latent_entries(objective.network, encoder.normalize(few), seed)
    if objective is not None and isinstance(objective.network, DictionaryLearner):
        entries += atom_entries(objective.network, _as_fed(encoder, some[:MEASURED]))
    entries += _likeness(atlas.look(encoder, some, pixels, called), seed)
    return keep(Path(folder), entries)


def draw_errors(errors: Sequence[dict[str, Any]], images: Any, folder: str | Path) -> Path:
    """Draws the thumbnails of classification errors for the report.

    Args:
        errors: {"name", "true", "predicted", "probability"} each, worst first.
        images: (N, C, H, W) uint8, the item of every error.
        folder: the run folder.
    """
    some = np.ascontiguousarray(np.stack([images[i] for i in range(len(errors))])) if errors else None
    entries = []
    if some is not None:
        pixels = to_pixels(torch.from_numpy(some).float() / 255, [0.0] * some.shape[1], [1.0] * some.shape[1])
        for error, each in zip(errors, pixels, strict=True):
            entries.append(entry("errors", item_tile(each), str(error.get("name", "")), "", dict(error)))
    return keep(Path(folder), entries, sections=["errors"])


def show(
    subject: Subject, images: Any, out_png: str | Path, mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None, *, names: Sequence[str] = (), seed: int = 0,
    device: Any = "cpu",
) -> Path:  # fmt: skip
    """Draws how a split divides items, a row each: t, x, y and, of an `Objective`, the prediction merged back.

    Args:
        subject: a split, a plain function `t -> Pair`, or an objective.
        images: uint8 or floats in 0..1, (B, C, H, W) or clips (B, T, C, H, W), of the size the subject takes; or whole
            numbers (B, L), characters of text.
        out_png: the picture.
        mean, std: per channel, of pixels in 0..1: how the network was fed. None leaves pixels in 0..1.
        names: of the items.

    Raises:
        InputError: for another shape. CannotWrite: for the file.
    """
    t = torch.as_tensor(images).to(device)
    title = repr(subject.split if isinstance(subject, Objective) else as_split(subject))
    if t.ndim == 2 and not t.is_floating_point():
        picture = _text_sheet(title, columns_of(subject, t.long(), seed), names)
    elif t.ndim in (4, 5) and len(t):
        picture = _image_sheet(subject, t, mean, std, title, names, seed)
    else:
        raise InputError(
            f"items of shape {tuple(t.shape)}: images are (B, C, H, W), clips (B, T, C, H, W), text (B, L)"
        )
    out = Path(out_png)
    return write_png(picture, out)


def _image_sheet(
    subject: Subject, t: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None, title: str,
    names: Sequence[str], seed: int,
) -> Tile:  # fmt: skip
    C = t.shape[-3]
    mean, std = mean or [0.0] * C, std or [1.0] * C
    if len(mean) != C or len(std) != C:
        raise InputError(f"images have {C} channels, mean and std have {len(mean)} and {len(std)}")
    fed = _normalized(t, mean, std)
    split = subject.split if isinstance(subject, Objective) else subject
    own = own_rows(split, subject if isinstance(subject, Objective) else None, fed, seed)
    if own is not None:
        return sheet(title, own[0], [(str(names[i]) if i < len(names) else "", row) for i, row in enumerate(own[1])])
    columns = columns_of(subject, fed, seed)
    wanted = 176 if t.ndim == 4 else 72
    rows = _rows(columns, mean, std, enlargement(t.shape[-1], wanted))
    named = [str(names[i]) if i < len(names) else "" for i in range(len(rows))]
    if t.ndim == 4:
        return sheet(title, [HEADINGS[column.name] for column in columns], list(zip(named, rows, strict=True)))
    headings = [column.name for column in columns]
    return ladder(title, [(name, list(zip(headings, row, strict=True))) for name, row in zip(named, rows, strict=True)])


def _normalized(t: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    t = t.float() / 255 if t.dtype == torch.uint8 else t.float()
    shape = (len(mean), 1, 1)
    return (t - t.new_tensor(list(mean)).view(shape)) / t.new_tensor(list(std)).view(shape)


def _rows(columns: Sequence[Column], mean: Sequence[float], std: Sequence[float], times: int) -> list[list[Tile]]:
    """A list of tiles for every item."""
    made: list[list[Tile]] = []
    side = columns[0].values.shape[-1] * times if columns[0].values is not None else 96
    for column in columns:
        if column.values is not None and column.values.ndim == 1:
            made.append([blank(side, side, _answer(int(value), column.answers)) for value in column.values])
            continue
        if column.values is None or column.values.ndim not in (4, 5):
            made.append([blank(side, side, column.words)] * len(made[0]))
            continue
        pixels = to_pixels(column.values, mean, std)
        covered = to_places(column)
        places = [None] * len(pixels) if covered is None else list(covered)
        made.append([tile(each, place, times) for each, place in zip(pixels, places, strict=True)])
    return [list(row) for row in zip(*made, strict=True)]


def _answer(value: int, answers: Sequence[str]) -> str:
    return answers[value] if 0 <= value < len(answers) else str(value)


def _text_sheet(title: str, columns: Sequence[Column], names: Sequence[str]) -> Tile:
    """Tokens as words: what is hidden in x, and seen in y, is a run of shades."""
    count = len(columns[0].values) if columns[0].values is not None else 0
    groups = []
    for at in range(count):
        rows = [(column.name, written(_said(column, at))) for column in columns]
        groups.append((str(names[at]) if at < len(names) else "", rows))
    return ladder(title, groups)


def _said(column: Column, at: int) -> str:
    if column.values is None:
        return column.words
    if column.values.ndim == 1:
        return _answer(int(column.values[at]), column.answers)
    tokens = [_character(int(token)) for token in column.values[at]]
    if column.covered is None:
        return "".join(tokens)
    return "".join(
        "\u2591" * len(word) if cover else word for word, cover in zip(tokens, column.covered[at], strict=True)
    )


def _character(token: int) -> str:
    return chr(token) if 0 <= token < 0x110000 else "?"


def _samples(pixels: NDArray[np.uint8]) -> list[dict[str, Any]]:
    shown = pixels[:SAMPLES]
    groups = [shown[first : first + SAMPLES_A_STRIP] for first in range(0, len(shown), SAMPLES_A_STRIP)]
    drawn = []
    for group in groups:
        tiles = [item_tile(each) for each in group]
        tiles += [blank(tiles[0].width, tiles[0].height)] * (SAMPLES_A_STRIP - len(tiles))
        caption = f"{plural(len(shown), 'item')}, picked at random." if len(shown) < len(pixels) else ""
        drawn.append(entry("samples", strip(tiles, 3), "", caption, {}))
    return drawn


def _as_fed(encoder: ImageEncoder, some: NDArray[np.uint8]) -> Tensor:
    """Images as the network is fed: of the encoder's size, normalized."""
    t = torch.from_numpy(some).to(encoder.device).float() / 255
    return _normalized(at_size(t, encoder.size), encoder.mean, encoder.std)


def _splits(
    objective: Objective, encoder: ImageEncoder, t: Tensor, names: list[str], seed: int
) -> list[dict[str, Any]]:
    columns = columns_of(objective, t, seed)
    told = [column for column in columns if not _repeats(column, columns[0])]
    rows = _rows(told, encoder.mean, encoder.std, enlargement(encoder.size, 96))
    shown = [column.name for column in told]
    hatched = any(column.covered is not None for column in columns)
    caption = "Hidden places are hatched." if hatched else ""
    if len(told) < len(columns):
        caption = "The item, and what is told of it from its z."
    if "prediction" in shown and hatched:
        caption += " In the prediction only hidden places are the network's; the others are the item's own."
    return [entry("split", strip(row), names[at], caption, {"columns": shown}) for at, row in enumerate(rows)]


def _repeats(column: Column, item: Column) -> bool:
    """Whether x or y is the whole item, as it is where only z is hidden: then it need not be drawn again."""
    same = column.values is not None and item.values is not None and column.covered is None
    return column.name in ("x", "y") and same and torch.equal(column.values, item.values)  # type: ignore[arg-type]


def _likeness(seen: atlas.Seen, seed: int) -> list[dict[str, Any]]:
    count, fitted = len(seen.pixels), len(seen.tokens)
    near = f"By cosine of the features, their mean taken off, among {count:,} items picked at random."
    colors = (
        "The first three principal components of the patch features as red, green and blue, over the item: patches "
        f"of one color are alike to the encoder, in all items. Fitted over {fitted} items"
        f"{', what is common to a place taken off' if fitted >= atlas.POSITIONS_KNOWN else ''}."
    )
    ranks = RANKS[: min(len(RANKS), count)]
    entries = [entry("neighbors", drawn, name, near, {"columns": ranks}) for name, drawn in atlas.neighbors(seen)]
    shown = {"columns": ["item", "features"]}
    entries += [entry("patches", drawn, name, colors, shown) for name, drawn in atlas.patch_colors(seen)]
    drawn = atlas.item_map(seen, seed)
    if drawn is not None:
        mapped = min(count, atlas.MAPPED)
        said = f"{mapped:,} items: those with similar features are near each other (t-SNE, moved to free cells)."
        entries.append(entry("map", drawn, "", said, {}))
    return entries


def keep(folder: Path, entries: list[dict[str, Any]], sections: Sequence[str] = ()) -> Path:
    """Writes pictures and their index; sections that are drawn again replace what was there, others stay.

    A picture that is a list of tiles becomes a moving one.
    """
    where = folder / "pictures"
    index = where / "index.json"
    drawn = {entry["section"] for entry in entries} | set(sections)
    with writing(where):
        where.mkdir(parents=True, exist_ok=True)
        before = _listed(index)
        listed = [entry for entry in before if entry.get("section") not in drawn]
        numbers: dict[str, int] = {}
        for entry in entries:
            section = entry["section"]
            number = numbers[section] = numbers.get(section, -1) + 1
            picture = entry.pop("picture")
            film = isinstance(picture, list)
            name = f"{section}-{number:02d}.{'gif' if film else 'png'}"
            (where / name).write_bytes(gif(picture) if film else png(picture))
            listed.append({"file": name, **entry})
        with replacing(index) as aside:
            aside.write_text(json.dumps(listed, indent=1), encoding="utf-8")
        kept = {entry.get("file") for entry in listed}
        for old in {str(entry.get("file")) for entry in before} - kept:
            if Path(old).name == old:
                (where / old).unlink(missing_ok=True)
    return where


def _listed(index: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
