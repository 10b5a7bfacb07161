"""The page in a real browser, where one is installed: nothing is wider than the screen, nothing is refused."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_run import full_run, poisoned

import withheld.report as report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")

WATCH = """<!DOCTYPE html><iframe id="page" src="{page}" style="width:{width}px;height:900px;border:0"></iframe>
<script>
document.getElementById("page").addEventListener("load", event => {{
  const inside = event.target.contentDocument;
  const wide = [...inside.querySelectorAll("body *")].filter(e => !e.closest(".scroll, .whole, svg")
    && e.getBoundingClientRect().right > {width} + 1);
  const broken = [...inside.images].filter(image => !image.naturalWidth);
  const style = getComputedStyle(inside.body).marginTop;
  document.title = [inside.documentElement.scrollWidth, wide.length, broken.length, style].join(" ");
}});
</script>"""


@pytest.mark.parametrize(("width", "name"), [(390, "W" * 2500), (390, "plain"), (320, "plain"), (1280, "W" * 2500)])
def test_nothing_is_wider_than_the_screen(width: int, name: str, tmp_path: Path) -> None:
    page = report.write(full_run(tmp_path / "run") if name == "plain" else poisoned(tmp_path / "run", name))
    watch = tmp_path / "watch.html"
    watch.write_text(WATCH.format(page=page.as_uri(), width=width))
    command = [
        str(CHROMIUM), "--headless=new", "--disable-gpu", "--no-first-run", "--allow-file-access-from-files",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000", "--dump-dom", watch.as_uri(),
    ]  # fmt: skip
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.insert(1, "--no-sandbox")
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("chromium does not answer here")
    title = re.search(r"<title>(\d+) (\d+) (\d+) (\S+)</title>", found.stdout)
    if title is None:
        pytest.skip("chromium shows no page here")
    assert int(title.group(1)) <= width
    assert title.group(2) == "0", "elements reach beyond the right edge"
    assert title.group(3) == "0", "pictures are not shown"
    assert title.group(4) == "0px", "the style sheet is not applied"
