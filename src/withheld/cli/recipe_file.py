"""Reads a recipe: plain YAML without tags, aliases or doubled keys, every key known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from withheld.data.strict_yaml import Strict
from withheld.errors import InputError, nearest

LARGEST = 1_000_000
Kinds = tuple[type, ...]
KEYS: dict[str, Kinds] = {
    "method": (str,),
    "data": (str,),
    "encoder": (str,),
    "minutes": (int, float),
    "epochs": (int, float),
    "steps": (int,),
    "batch_size": (int,),
    "size": (int, str),
    "set": (dict,),
    "seed": (int,),
    "accumulate": (int,),
    "recompute": (bool,),
    "shard": (bool,),
    "evaluate": (dict,),
    "sweep": (dict,),
    "row": (str,),
}
EVALUATE: dict[str, Kinds] = {
    "data": (str,),
    "labels": (str, bool),
    "labels_per_class": (list,),
    "seeds": (int,),
    "minutes": (int, float),
    "against": (list,),
}
SPOKEN = {
    str: "text",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "keys and values",
    bool: "true or false",
}


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe, every key checked.

    Raises:
        InputError: no such file, no YAML, an unknown key (with the nearest), a value of the wrong kind.
    """
    settings = _load(path)
    _check(path, settings, KEYS, "")
    if "method" not in settings:
        raise InputError(f"{path}: there is no `method`: write for example `method: mae`")
    lengths = [key for key in ("minutes", "epochs", "steps") if key in settings]
    if len(lengths) > 1:
        raise InputError(f"{path}: {' and '.join(lengths)} say the same thing twice: keep one of them")
    if "evaluate" in settings:
        _check(path, settings["evaluate"], EVALUATE, "evaluate.")
    if "sweep" in settings:
        _check_sweep(path, settings)
    return settings


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: more than {LARGEST:,} bytes: this is no recipe")
        loader = Strict(path.read_text(encoding="utf-8"))
        settings = loader.get_single_data()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: name a recipe such as recipes/fashion-mnist.yaml") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text: this is no recipe") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply: this is no recipe") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: {_one_line(error)}") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path}: a recipe is keys and values, for example `method: mae`")
    return settings


def _check(path: Path, settings: Mapping[Any, Any], known: Mapping[str, Kinds], prefix: str) -> None:
    for key, value in settings.items():
        if key not in known:
            raise InputError(f"{path}: unknown key {prefix}{key}: {nearest(str(key), known)}")
        kinds = known[key]
        # True is an int to Python, and never meant as one here.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            spoken = " or ".join(dict.fromkeys(SPOKEN[kind] for kind in kinds))
            raise InputError(f"{path}: {prefix}{key} is {value!r}: it must be {spoken}")


def _check_sweep(path: Path, settings: dict[str, Any]) -> None:
    sweep = settings["sweep"]
    if len(sweep) != 1 or not all(isinstance(values, list) and values for values in sweep.values()):
        raise InputError(
            f"{path}: sweep takes one setting and the list of its values, for example `sweep: {{ratio: [0.5, 0.75]}}`"
        )
    if not settings.get("evaluate"):
        raise InputError(f"{path}: a sweep compares verdicts: add for example `evaluate: {{labels_per_class: [10]}}`")


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    if mark is not None and problem:
        return f"line {mark.line + 1}: {problem}"
    return " ".join(str(error).split())
