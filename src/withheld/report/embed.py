"""Pictures inside the page: decoded and encoded anew, so that nothing but pixels gets in."""

from __future__ import annotations

import base64
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from withheld.report.clean import one_line, tail
from withheld.report.folder import Contents, mapping, texts

MOST_PIXELS = 40_000_000
MOST_PICTURES = 200
LOSSLESS_BYTES = 60_000


@dataclass(frozen=True)
class Picture:
    """A picture and what is said about it; `columns` are headings of equally wide columns."""

    section: str
    title: str
    caption: str
    columns: list[str]
    uri: Markup
    width: int
    height: int
    data: dict[str, Any]


def embedded(found: Contents) -> dict[str, list[Picture]]:
    """All pictures of a run folder by section; what cannot be read becomes a note."""
    sections: dict[str, list[Picture]] = {}
    for entry in found.pictures[:MOST_PICTURES]:
        name = entry["file"]
        try:
            path = _inside(found.folder / "pictures", name)
            uri, width, height = _film_uri(path) if path.suffix == ".gif" else _data_uri(path)
        except Exception as error:  # Pillow raises more kinds than OSError on damaged files
            found.notes.append(f"pictures/{one_line(name)[:80]} was left out ({type(error).__name__})")
            continue
        said = {key: one_line(entry.get(key) or "") for key in ("section", "title", "caption")}
        data = mapping(entry.get("data"))
        columns = [one_line(column) for column in texts(data.get("columns"))]
        picture = Picture(said["section"], tail(said["title"]), said["caption"], columns, uri, width, height, data)
        sections.setdefault(said["section"], []).append(picture)
    if len(found.pictures) > MOST_PICTURES:
        found.notes.append(f"pictures: {MOST_PICTURES} of {len(found.pictures)} are shown")
    return sections


def _inside(folder: Path, name: str) -> Path:
    """The path of a picture, which must be a plain file directly in the folder."""
    path = folder / name
    if Path(name).name != name or not path.is_file() or path.is_symlink():
        raise ValueError("not a file of the pictures folder")
    return path


def _data_uri(path: Path) -> tuple[Markup, int, int]:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=("PNG",)) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ValueError("too many pixels")
            opened.load()
            clear = opened.mode in ("RGBA", "LA") or "transparency" in opened.info
            image = opened.convert("RGBA" if clear else "RGB")
    image.info.clear()
    kind, data = "png", _encoded(image, "PNG", optimize=True)
    if len(data) > LOSSLESS_BYTES:
        small = _encoded(image, "WEBP", quality=88, method=4)
        kind, data = ("webp", small) if len(small) < len(data) else (kind, data)
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return Markup(uri), image.width, image.height  # noqa: S704, nothing in it comes from outside


def _film_uri(path: Path) -> tuple[Markup, int, int]:
    """A moving picture, its pixels encoded anew; it moves without any code in the page."""
    from PIL import Image, ImageSequence

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=("GIF",)) as opened:
            count = getattr(opened, "n_frames", 1)
            if opened.width * opened.height * count > MOST_PIXELS:
                raise ValueError("too many pixels")
            pause = min(5000, max(20, int(opened.info.get("duration", 125))))
            frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(opened)]
    for frame in frames:
        frame.info.clear()
    data = _encoded(
        frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=pause, loop=0, quality=80, method=4
    )
    uri = f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"
    return Markup(uri), frames[0].width, frames[0].height  # noqa: S704, nothing in it comes from outside


def _encoded(image: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
