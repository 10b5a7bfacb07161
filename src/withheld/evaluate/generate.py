"""Drawing from what a run has learned."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from withheld.data.image import to_array
from withheld.data.source import Source, open_source
from withheld.errors import InputError
from withheld.evaluate.canvas import Tile, blank, write_png
from withheld.evaluate.latent_pictures import ACROSS, Latent, grid, interpolated, traversed
from withheld.latent import LatentModel
from withheld.learn.checkpoint import replacing
from withheld.networks.code_prior import CodePrior
from withheld.run import Run, open_run

PICTURE = (".png",)
NAME_WIDTH = 110
"""Pixels for a name at the left of a row."""


def sample(run: str | Path | Run, out: str | Path, count: int = 64, temperature: float = 1.0, seed: int = 0) -> Path:
    """Draws new items from a run: a PNG of images (vae, code_prior), a csv of rows (mixture, mean_field).

    Raises:
        InputError: the run has no prior to draw from, or the file another ending.
    """
    run = run if isinstance(run, Run) else open_run(run)
    out = Path(out)
    model = run.objective()
    torch.manual_seed(seed)
    if isinstance(model, LatentModel):
        rows, z = model.draw(count)  # type: ignore[operator]
        return _write_rows(_ends(out, ".csv"), run.settings["data"]["columns"], rows.tolist(), z.tolist())
    _ends(out, *PICTURE)
    if isinstance(model.network, CodePrior):
        from withheld.modalities.codes import decoded

        images = decoded(open_run(run.settings["data"]["location"][4:]), model.network, count, temperature)
    else:
        with torch.no_grad():
            images = latent_of(run, model).draw(count)
    return write_png(grid(images, min(count, 8)), out)


def traverse(run: str | Path | Run, out: str | Path, item: str | None = None) -> Path:
    """Draws a row for every active dimension of z, strongest first, moved from -3 to 3 from one item's z.

    At its left stand the dimension and the nats that it tells of an item, as on the page.

    Args:
        item: an image; None takes the origin of z.
    """
    run = run if isinstance(run, Run) else open_run(run)
    out = _ends(Path(out), *PICTURE)
    network = latent_of(run, run.objective())
    with torch.no_grad():
        mean, log_variance = network.infer(some_items(run))
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean(dim=0)
        active = [i for i in kl.argsort(descending=True).tolist() if float(mean[:, i].var()) > 0.01] or [
            int(kl.argmax())
        ]
        z = torch.zeros_like(mean[0]) if item is None else network.infer(read_item(run, item))[0][0]
        rows = [(f"z{at}: {float(kl[at]):.2f} nats", grid(traversed(network, z, at), ACROSS)) for at in active]
    return write_png(_beside_names(rows), out)


def _beside_names(rows: list[tuple[str, Tile]]) -> Tile:
    """Rows of equal size under each other, each with its name at the left."""
    width, height = rows[0][1].width + NAME_WIDTH, rows[0][1].height + 2
    out = blank(width, len(rows) * height - 2)
    for place, (name, row) in enumerate(rows):
        out.paste(blank(NAME_WIDTH, row.height, name), (0, place * height))
        out.paste(row, (NAME_WIDTH, place * height))
    return out


def interpolate(run: str | Path | Run, a: str, b: str, out: str | Path) -> Path:
    """Draws the way from one image to another along the line between their z; the images themselves stand at both ends."""
    run = run if isinstance(run, Run) else open_run(run)
    out = _ends(Path(out), *PICTURE)
    network = latent_of(run, run.objective())
    with torch.no_grad():
        t = torch.cat([read_item(run, a), read_item(run, b)])
        mean, _ = network.infer(t)
        path = interpolated(network, mean[0], mean[1])
    return write_png(grid(torch.cat([t[:1], path, t[1:]]), ACROSS), out)


def latent_of(run: Run, model: Any) -> Any:
    """The network of a run, with its z.

    Raises:
        InputError: where it has none.
    """
    if not isinstance(model, LatentModel) and isinstance(model.network, Latent):
        network: Any = model.network
        return network.eval()
    if run.settings["modality"] == "text":
        raise InputError(
            f"{run.folder}: a run of {run.settings['title']} learned from texts, and no picture can be drawn from it; of a run "
            "of sentence_vae there are: withheld sample, interpolate, likelihood"
        )
    instead = {
        "table": f"z of a row is its component: rows from it: withheld sample {run.folder}; a picture: withheld report",
        "codes": f"its z are codes: images from it: withheld sample {run.folder}",
    }.get(run.settings["modality"])
    if instead:
        raise InputError(f"{run.folder}: a run of {run.settings['title']}, {instead}")
    then = (
        "; learn its codes first: withheld pretrain code_prior --data run:RUN"
        if run.settings["method"] == "vq_vae2"
        else ""
    )
    raise InputError(f"{run.folder}: a run of {run.settings['title']} has no z to draw from; a run of vae has{then}")


def read_item(run: Run, name: str) -> Tensor:
    """(1, C, H, W) as the run's network is fed: an image file, or the number of an item of the run's data."""
    facts = run.settings["data"]
    if name.isdigit() and not Path(name).exists():
        source = learned_from(run, f"name image files instead of {name}")
        source = source.part("train") or source
        if int(name) >= len(source):
            raise InputError(f"item {name}: the run's data has {len(source):,} items, numbered from 0")
        image = source.read(int(name))
    else:
        source = open_source(name)
        if len(source) != 1:
            raise InputError(f"{name} holds {len(source):,} images: name one image file, or a number of the run's data")
        image = source.read(0)
    pixels = to_array(image, facts["size"], facts["channels"], run.encoder().scale)
    return run.encoder().normalize(torch.from_numpy(pixels[None].copy()))


def learned_from(run: Run, remedy: str) -> Source:
    """The run's data.

    Raises:
        InputError: where it is no longer there.
    """
    facts = run.settings["data"]
    try:
        return open_source(facts["location"], stream=bool(facts.get("streamed")))
    except InputError as error:
        raise InputError(f"{run.folder} learned from data that is needed here: {error}; {remedy}") from None


def some_items(run: Run, count: int = 500) -> Tensor:
    """Items of the run's data, as its network is fed."""
    from withheld.modalities.codes import as_fed, images_of

    learned_from(run, "put it there again, or a link to it")
    images = images_of(run, None, "train").images
    step = max(1, len(images) // count)
    return as_fed(run, images[::step][:count])


def _write_rows(out: Path, columns: list[str], rows: list[list[float]], z: list[int]) -> Path:
    with replacing(out) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "component"])
        writer.writerows([*row, k] for row, k in zip(rows, z, strict=True))
    return out


def _ends(out: Path, *endings: str) -> Path:
    if out.suffix.lower() not in endings:
        raise InputError(f"-o {out}: what is drawn here is written to a file that ends in {' or '.join(endings)}")
    return out
