"""Pictures of tasks that ask about patches: where one lies from another, or which one a view shows.

Nothing here names a split: one that has places, or exemplars, is drawn by them.

Shapes: B batch, G patches of a grid, C channels, S side of an image, h side of a patch, V views.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from PIL import ImageDraw
from torch import Tensor

from withheld.evaluate.canvas import INK, SOFT, Tile, blank, enlargement, pixels_of, strip, tile
from withheld.evaluate.fonts import font
from withheld.evaluate.latent_pictures import Entry, entry
from withheld.modes import evaluating
from withheld.objective import Objective

FIRST, SECOND, OTHER = (0, 105, 180, 255), (199, 119, 0, 255), (255, 255, 255, 150)
ARROWS = "↖↑↗←→↙↓↘"
CELLS = (0, 1, 2, 3, 5, 6, 7, 8)  # of a 3 x 3 picture, by direction
WANTED, LARGE, VIEWS, ROWS, NEAR = 96, 165, 7, 6, 5
Rows = tuple[list[str], list[list[Tile]]]


@runtime_checkable
class Placed(Protocol):
    """A split that asks where one patch of a grid lies from another."""

    def pixels(self, size: int) -> tuple[int, int, int]:
        """Side, gap and jitter of the patches of images of a size."""

    def places(self, count: int, size: int, device: Any = None) -> Tensor:
        """Upper left corners (count, G, 2), row and column."""

    def patches(self, t: Tensor, places_BG2: Tensor) -> Tensor:
        """Patches (B, G, C, h, h) as the network sees them."""

    def questions(self, count: int, device: Any = None) -> tuple[Tensor, Tensor]:
        """Pairs (count, P, 2) and their answers (count, P)."""


@runtime_checkable
class Exemplified(Protocol):
    """A split that asks which seed a view shows."""

    def exemplars(self, t: Tensor, number_B: Tensor, views: int) -> Tensor:
        """Seeds, each followed by views of it, (B, 1 + views, C, h, h) within 0..1."""


@torch.no_grad()
def own_rows(split: Any, objective: Objective | None, t: Tensor, seed: int = 0) -> Rows | None:
    """Headings and a row of tiles for every item, of a split that has a picture of its own; None for all others.

    Args:
        t: (B, C, S, S) as the network is fed.
        objective: trained, to draw its answers too.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        if isinstance(split, Placed):
            return _pairs(split, objective, t)
        if isinstance(split, Exemplified):
            shown = split.exemplars(t, torch.arange(len(t), device=t.device), VIEWS)
            return ["seed", *["view"] * VIEWS], [[_patch(each) for each in row] for row in shown]
    return None


@torch.no_grad()
def pretext_entries(objective: Objective, t: Tensor, few: int, names: list[str], seed: int = 0) -> list[Entry]:
    """Everything for the report; empty where the split has no picture of its own.

    Args:
        t: (B, C, S, S) as the network is fed.
        few: of these the first so many are drawn, all are measured.
    """
    with evaluating(objective):
        rows = own_rows(objective.split, objective, t[:few], seed)
        if rows is None:
            return []
        placed = isinstance(objective.split, Placed)
        section = "pairs" if placed else "exemplars"
        entries = [
            entry(section, strip(row), name, "", {"columns": rows[0]})
            for name, row in zip(names, rows[1], strict=False)
        ]
        if placed:
            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                torch.manual_seed(seed)
                entries += [_confused(objective, t), *_near_patches(objective, t)]
        return entries


def _pairs(split: Placed, objective: Objective | None, t: Tensor) -> Rows:
    """The grid on its image, one pair in color, the two patches as seen, and what was told."""
    places = split.places(len(t), t.shape[-1], t.device)
    patches = split.patches(t, places)
    pairs, answers = split.questions(len(t), t.device)
    asked = torch.randint(pairs.shape[1], (len(t),)).tolist()
    told = None
    if objective is not None:
        with evaluating(objective):
            told = objective.network({"patches": patches, "pairs": pairs}).float().softmax(dim=-1)
    rows = []
    for at, question in enumerate(asked):
        first, second = pairs[at, question].tolist()
        row = [_on_image(t[at], places[at], split.pixels(t.shape[-1])[0], first, second)]
        row += [
            _framed(_patch(_visible(patches[at, which]), LARGE), color)
            for which, color in ((first, FIRST), (second, SECOND))
        ]
        row.append(_compass(None if told is None else told[at, question].tolist(), int(answers[at, question])))
        rows.append(row)
    return ["item", "from", "to", "answer" if told is None else "told"], rows


def _visible(normalized: Tensor) -> Tensor:
    """A patch of mean 0 and variance 1, within 0..1."""
    return (normalized / 5 + 0.5).clamp(0, 1)


def _patch(image_CHW: Tensor, wanted: int = WANTED) -> Tile:
    return tile(pixels_of(image_CHW), None, enlargement(image_CHW.shape[-1], wanted))


def _on_image(t_CSS: Tensor, corners_G2: Tensor, side: int, first: int, second: int) -> Tile:
    low, high = t_CSS.amin(), t_CSS.amax()
    times = 2 * enlargement(t_CSS.shape[-1], WANTED)
    out = tile(pixels_of((t_CSS - low) / (high - low).clamp_min(1e-6)), None, times)
    draw = ImageDraw.Draw(out)
    chosen = {first: FIRST, second: SECOND}
    order = [at for at in range(len(corners_G2)) if at not in chosen] + [first, second]
    for at in order:
        row, column = (int(v) * times for v in corners_G2[at])
        box = [column, row, column + side * times - 1, row + side * times - 1]
        draw.rectangle(box, outline=chosen.get(at, OTHER), width=3 if at in chosen else 1)
    return out


def _framed(inner: Tile, color: tuple[int, int, int, int]) -> Tile:
    out = blank(inner.width + 8, inner.height + 8)
    ImageDraw.Draw(out).rectangle([0, 0, out.width - 1, out.height - 1], outline=color, width=3)
    out.paste(inner, (4, 4))
    return out


def _compass(told: list[float] | None, answer: int) -> Tile:
    """The eight directions around the first patch: how likely each was told, the right one framed."""
    step = LARGE // 3
    out = blank(3 * step + 2, 3 * step + 2)
    draw = ImageDraw.Draw(out)
    draw.rectangle([step + 4, step + 4, 2 * step - 4, 2 * step - 4], outline=FIRST, width=3)
    for direction, cell in enumerate(CELLS):
        x, y = cell % 3 * step, cell // 3 * step
        box = [x + 1, y + 1, x + step - 2, y + step - 2]
        if told is not None:
            draw.rectangle(box, fill=(*SECOND[:3], round(255 * told[direction])))
            percent = f"{100 * told[direction]:.0f}"
            draw.text((x + step / 2, y + step / 2), percent, fill=INK, font=font(16), anchor="mm")
        right = direction == answer
        draw.rectangle(box, outline=SECOND if right else (*SOFT[:3], 70), width=3 if right else 1)
    return out


def _confused(objective: Objective, t: Tensor) -> Entry:
    """Which direction was taken for which, over many pairs."""
    pair = objective.split(t)
    told = objective.network(pair.x).argmax(dim=-1).flatten()
    counts = torch.bincount(pair.y.flatten() * 8 + told, minlength=64).view(8, 8).cpu().double()
    share = (counts / counts.sum(dim=1, keepdim=True).clamp_min(1)).tolist()
    step, edge = 44, 34
    out = blank(edge + 8 * step, edge + 8 * step)
    draw = ImageDraw.Draw(out)
    for at, arrow in enumerate(ARROWS):
        middle = edge + at * step + step / 2
        draw.text((middle, edge / 2), arrow, fill=SOFT, font=font(20), anchor="mm")
        draw.text((edge / 2, middle), arrow, fill=SOFT, font=font(20), anchor="mm")
    for row in range(8):
        for column in range(8):
            x, y, value = edge + column * step, edge + row * step, share[row][column]
            color = FIRST[:3] if row == column else SECOND[:3]
            draw.rectangle([x + 1, y + 1, x + step - 2, y + step - 2], fill=(*color, round(30 + 200 * value)))
            draw.text((x + step / 2, y + step / 2), f"{100 * value:.0f}", fill=INK, font=font(13), anchor="mm")
    right = float(counts.diagonal().sum() / counts.sum())
    said = (
        f"{int(counts.sum()):,} pairs of {len(t)} items, in % of each true direction; {100 * right:.1f} % are told right, "
        "12.5 % by chance."
    )
    return entry("confusion", out, "", said)


def _near_patches(objective: Objective, t: Tensor) -> list[Entry]:
    """Patches, and those of other items that are nearest to the trunk."""
    split: Any = objective.split
    places = split.places(len(t), t.shape[-1], t.device)
    patches = split.patches(t, places)
    features = torch.cat([objective.trunk.crops(some.flatten(0, 1)).pooled for some in patches.split(32)]).float()
    unit = torch.nn.functional.normalize(features - features.mean(dim=0), dim=1)
    G, flat = patches.shape[1], patches.flatten(0, 1)
    near = min(NEAR, len(t) - 1)
    entries = []
    for asked in torch.linspace(0, len(flat) - 1, ROWS + 1)[:-1].long().tolist() if near else []:
        likeness = unit @ unit[asked]
        likeness[asked // G * G : asked // G * G + G] = -2.0  # those of the same item touch it
        order = [asked, *likeness.argsort(descending=True)[:near].tolist()]
        tiles = strip([_patch(_visible(flat[at])) for at in order])
        ranks = ["patch", "nearest", "2nd", "3rd", "4th", "5th"][: len(order)]
        said = f"By cosine of the features, their mean taken off, among {len(flat):,} patches of other items."
        entries.append(entry("near_patches", tiles, "", said, {"columns": ranks}))
    return entries
