"""Every command teaches by example, and answers at once."""

from __future__ import annotations

import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from withheld.cli import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_how_it_is_typed(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert f"withheld {name}" in result.output
    assert f"Usage: withheld {name}" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    silent = [each.name for each in command.params if isinstance(each, click.Option) and not each.help]
    assert not silent


def test_the_help_names_every_command_and_exit_code() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name in COMMANDS:
        assert name in result.output
    for code in ("0 ", "2 ", "3 ", "73 ", "74 ", "75 ", "130 ", "143 "):
        assert code in result.output


@pytest.mark.parametrize("start", [["-m", "withheld"], ["-c", "from withheld.cli import main; main()"]])
def test_help_answers_within_a_second(start: list[str]) -> None:
    fastest = 1e9
    for _ in range(3):
        began = time.monotonic()
        done = subprocess.run([sys.executable, *start, "--help"], capture_output=True, text=True, timeout=60)
        fastest = min(fastest, time.monotonic() - began)
        assert done.returncode == 0
    assert fastest < 1.0


def test_the_version() -> None:
    import withheld

    assert withheld.__version__ in CliRunner().invoke(main, ["--version"]).output


@pytest.mark.parametrize(("typed", "hint"), [("pretrian", "pretrain"), ("eval", "evaluate"), ("lst", "list")])
def test_a_mistyped_command_gets_the_nearest(typed: str, hint: str) -> None:
    result = CliRunner().invoke(main, [typed])
    assert result.exit_code == 2
    assert hint in result.output


def test_a_mistyped_option_is_exit_code_2() -> None:
    result = CliRunner().invoke(main, ["pretrain", "mae", "--date", "x", "--out", "y"])
    assert result.exit_code == 2
    assert "--data" in result.output
