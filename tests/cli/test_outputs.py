"""One rule for every command that writes: nothing that exists is written over without --force."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from withheld.cli import COMMANDS
from withheld.cli.outputs import check_output, free
from withheld.errors import CannotWrite, InputError

Run = Callable[..., Result]


@pytest.mark.parametrize("name", COMMANDS)
def test_what_has_an_output_has_force(name: str) -> None:
    module = importlib.import_module(f"withheld.cli.{COMMANDS[name][0]}")
    command = getattr(module, f"{name.replace('-', '_')}_command")
    options = {each.name for each in command.params}
    assert "force" in options or "output" not in options


@pytest.mark.parametrize(
    ("words", "ending"),
    [
        (("predict", "IN", "IN"), "csv"),
        (("embed", "IN", "IN"), "npz"),
        (("export", "IN", "--to", "hf"), "hf"),
        (("show", "mae", "IN"), "png"),
        (("track", "IN", "IN", "--mask", "x.png"), "mp4"),
        (("detect", "IN", "IN/a.png"), "png"),
        (("search", "IN", "x", "--data", "IN"), "html"),
        (("traverse", "IN"), "png"),
        (("generate", "IN", "--data", "IN"), "gif"),
    ],
)
def test_what_exists_is_refused_before_the_work(
    words: tuple[str, ...], ending: str, tmp_path: Path, withheld: Run
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"")
    output = tmp_path / f"mine.{ending}"
    output.write_text("mine")
    typed = [word.replace("IN", str(tmp_path / "in")) for word in words]
    result = withheld(*typed, "-o", output)
    assert result.exit_code == 2, result.output
    assert f"{output} exists: choose another name, or --force to write over it" in result.stderr
    assert output.read_text() == "mine"


def test_where_to_write(tmp_path: Path) -> None:
    assert check_output(tmp_path / "new" / "a.PNG", False, ".png").parent.is_dir()
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty", False)  # nothing in it that could be lost
    with pytest.raises(InputError, match="exists"):
        check_output(tmp_path, False)
    check_output(tmp_path, True)
    with pytest.raises(InputError, match=r"ends in \.a, \.b or \.c"):
        check_output(tmp_path / "x.d", True, ".a", ".b", ".c")
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="is a file"):
        check_output(tmp_path / "file" / "x.a", False, ".a")


def test_a_picture_whose_name_was_not_said_takes_the_next_free_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert free("mae.png", False) == Path("mae.png")
    for name in ("mae.png", "mae-2.png"):
        Path(name).touch()
    assert free("mae.png", False) == Path("mae-3.png")
    assert free("mae.png", True) == Path("mae.png")
