"""Names that strangers chose add no element and no attribute to the page (RELIABILITY S4, S13, R20)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from fake_run import full_run, poisoned
from page_reader import read

import withheld.report as report

PAYLOADS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "{{7*7}}",
    "{% for x in ().__class__.__base__.__subclasses__() %}x{% endfor %}",
    "{#",
    "${7*7}",
    "<!--",
    "-->",
    "]]><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</svg><script>alert(1)</script>",
    "</code></pre><iframe src=//evil.example>",
    "<math><mtext></table></math><img src=x onerror=alert(1)>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#x3c;script&#x3e;",
    "photo\u202egnp.exe",
    "nul\x00byte",
    "bell\x07escape\x1b[31mred",
    "line\nbreak\r\nand\ttab",
    "caf\udce9.jpg",
    "\ud800lone",
    "\ufeff\u2028\u2029\uffff",
    "\U0001f431 " + "e\u0301" * 3,
    "$x_{$ \\frac{1}{2",
    "`id` $(id) ; rm -rf ~ #",
    "long" * 2000,
    "=cmd|' /C calc'!A0",
]
BENIGN = "benign"


def shape(page: Path) -> Counter[tuple[str, ...]]:
    """How often every element with its attribute names is on the page."""
    return Counter((tag, *sorted(name for name, _ in attrs)) for tag, attrs in read(page).elements)


@pytest.fixture(scope="module")
def benign(tmp_path_factory: pytest.TempPathFactory) -> Counter[tuple[str, ...]]:
    return shape(report.write(poisoned(tmp_path_factory.mktemp("benign") / "mae", BENIGN)))


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
@pytest.mark.promise("S4", "payloads in names, labels and settings that add no element to the report")
def test_payload_adds_nothing(payload: str, benign: Counter[tuple[str, ...]], tmp_path: Path) -> None:
    page = report.write(poisoned(tmp_path / "mae", payload))
    assert shape(page) == benign
    text = page.read_bytes().decode("utf-8")
    assert not set(text) & set("\x00\x07\x1b\u202e\ufeff\uffff\u2028")
    for _, attrs in read(page).elements:
        for name, value in attrs:
            assert name != "href" or str(value).startswith("#")
            assert name != "src" or str(value).startswith("data:image/")


def test_payload_as_folder_name(tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror=alert(1)> {{7*7}} \udce9"
    try:
        full_run(folder)
    except (OSError, UnicodeError):
        pytest.skip("this file system refuses such names")
    page = report.write(folder)
    assert "<img src=x" not in page.read_text(encoding="utf-8")
    assert "\\xe9" in page.read_text(encoding="utf-8")


def test_figure_takes_any_name(tmp_path: Path) -> None:
    for at, payload in enumerate([*PAYLOADS[::6], "$x_{$ \\frac{1}{2"]):
        picture = report.figure(poisoned(tmp_path / str(at), payload), tmp_path / "out.png")
        assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.promise("S13", "tokens and passwords in the report")
def test_secrets_are_removed(tmp_path: Path) -> None:
    folder = full_run(tmp_path)
    run = json.loads((folder / "run.json").read_text())
    token = "hf_" + "AbCdEfGhIjKlMnOpQrSt"
    run["command"] = f"HF_TOKEN={token} withheld pretrain mae --data https://me:s3cret@host.example/x.tar"
    run["data"]["location"] = "https://me:s3cret@host.example/x.tar"
    (folder / "run.json").write_text(json.dumps(run))
    page = report.write(folder).read_text()
    assert token not in page
    assert "s3cret" not in page


@pytest.mark.parametrize("name", ["../outside.png", "/etc/hostname", "..", "", "sub/x.png", "con\x00.png"])
@pytest.mark.promise("S4", "pictures from elsewhere")
def test_pictures_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    folder = full_run(tmp_path / "run")
    (tmp_path / "run" / "outside.png").write_bytes((folder / "pictures" / "map-18.png").read_bytes())
    (folder / "pictures" / "index.json").write_text(
        json.dumps([{"file": name, "section": "map", "title": "", "caption": ""}])
    )
    page = report.write(folder).read_text()
    assert '<section id="map">' not in page
    assert "was left out" in page


@pytest.mark.promise("S4", "EXIF and GPS that do not reach the report")
def test_pictures_lose_what_is_not_pixels(tmp_path: Path) -> None:
    from PIL import Image, PngImagePlugin

    folder = full_run(tmp_path)
    said = PngImagePlugin.PngInfo()
    said.add_text("Comment", "<script>alert('secret place')</script>")
    Image.new("RGB", (8, 8)).save(folder / "pictures" / "map-18.png", pnginfo=said)
    import base64
    import re

    page = report.write(folder).read_text()
    for uri in re.findall(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)", page):
        assert b"secret place" not in base64.b64decode(uri)


def test_pictures_arrive_whole(tmp_path: Path) -> None:
    import base64
    import io
    import re

    from PIL import Image

    folder = full_run(tmp_path)
    sizes = []
    for kind, data in re.findall(r'"data:image/(\w+);base64,([^"]*)"', report.write(folder).read_text()):
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=(kind.upper(),)) as picture:
            picture.load()
            sizes.append(len(data))
    assert len(sizes) == len(list((folder / "pictures").glob("*.png")))
    assert max(sizes) > 10_000


def test_addresses_in_results_are_not_pictures(tmp_path: Path) -> None:
    folder = full_run(tmp_path, pictures=False)
    lines = (
        (folder / "results.jsonl")
        .read_text()
        .replace('"name": "test', '"uri": "https://evil.example/x.png", "name": "t')
    )
    (folder / "results.jsonl").write_text(lines)
    assert "evil.example" not in report.write(folder).read_text()
