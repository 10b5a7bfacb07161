"""What the README shows can be typed: its shell lines parse, its Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from withheld.cli import COMMANDS, main, options
from withheld.cli.train import USES
from withheld.evaluate import tuned

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def shown_commands(text: str) -> list[str]:
    """Lines of shell blocks, and what stands in backticks, that start with `withheld `."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()]
    inline = re.findall(r"`(withheld [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line.split("#")[0].split(">")[0].strip() for line in lines + inline if line.startswith("withheld ")]


@pytest.fixture(autouse=True)
def _all_files_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be typed is asked here, not whether photos/ is there."""
    for kind in (options.Data, options.Subject):
        monkeypatch.setattr(kind, "convert", lambda self, value, param, ctx: value)
    monkeypatch.setattr(options.Made, "convert", lambda self, value, param, ctx: Path(value))


def parse(line: str) -> None:
    """Parses a command as click does, without running it."""
    words = shlex.split(line)[1:]
    context = main.make_context("withheld", words[:1] if words[0].startswith("-") else [], resilient_parsing=True)
    command = main.get_command(context, words[0])
    assert command is not None, f"no such command: {line}"
    command.make_context(words[0], words[1:], parent=context)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_command_of_the_documents_can_be_typed(path: Path) -> None:
    for line in shown_commands(path.read_text(encoding="utf-8")):
        if "..." in line:  # told in short
            continue
        words = shlex.split(line)[1:]
        assert words[0] in {*COMMANDS, "--help"}, line
        if len(words) > 1 or words[0] in ("demo", "list", "methods"):
            parse(line)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_of_the_help_can_be_typed(name: str) -> None:
    command = main.get_command(main.make_context("withheld", [], resilient_parsing=True), name)
    assert command is not None
    shown = [line.strip().split(" #")[0].split(" ||")[0].split(" > ")[0] for line in (command.help or "").splitlines()]
    examples = [line for line in shown if line.startswith("withheld ")]
    assert examples, f"withheld {name} --help shows no example"
    for line in examples:
        parse(line)


@pytest.mark.parametrize("method", USES)
def test_what_a_run_can_do_can_be_typed(method: str) -> None:
    assert (ROOT / "src" / "withheld" / "methods" / f"{method}.py").is_file()
    for words in USES[method]:
        parse(f"withheld {words.format('runs/a')}")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_set_up_takes_two_commands() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_every_command_is_in_the_table() -> None:
    for name in COMMANDS:
        assert f"`withheld {name}" in README, name


def test_the_methods_page_is_as_generated() -> None:
    from click.testing import CliRunner

    made = CliRunner().invoke(main, ["methods", "--markdown"]).output
    kept = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert kept.strip() == made.strip(), "make docs"


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """End to end on tiny data: only minutes and steps are taken down, and the verdict's rows."""
    from PIL import Image

    random = np.random.default_rng(0)
    for name in ("photos", "labelled/dark", "labelled/light"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        low = {"dark": 0, "light": 128}.get(folder.name, 64)
        for at in range(20):
            pixels = random.integers(low, low + 128, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{at}.png")
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(pixels).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuned, "steps_for", lambda items: 4)
    defining, here, using, latent = blocks("python")
    assert len([line for line in defining.splitlines() if line.strip()]) < 10
    defining = defining.replace("minutes=10", "steps=3")
    defining = defining.replace('"labelled/")', '"labelled/", labels_per_class=(2,), seeds=2, minutes=0.2)')
    scope: dict[str, object] = {}
    run_block(defining, scope)
    assert (tmp_path / "runs" / "halves" / "encoder" / "config.json").is_file()
    pictures = [Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(120)]
    scope |= {"images": pictures, "labelled_images": pictures[:40], "labels": ["dark", "light"] * 20}
    here = here.replace("minutes=10", "steps=3").replace(
        "labels))", "labels), labels_per_class=(2,), seeds=2, minutes=0.2)"
    )
    run_block(here, scope)
    run_block(using.replace("runs/first", "runs/halves"), scope)
    assert scope["features"].shape == (2, scope["encoder"].width)  # type: ignore[attr-defined]
    scope |= {"rows": random.normal(size=(90, 2)), "log_joint": lambda z: -0.5 * (z**2).sum(dim=1)}
    run_block(latent.replace("dimensions=2", "dimensions=2, steps=20"), scope)


def run_block(text: str, scope: dict[str, object]) -> None:
    exec(compile(text, "README.md", "exec"), scope)  # noqa: S102
