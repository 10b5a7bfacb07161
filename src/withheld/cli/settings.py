"""`--set ratio=0.6`: text becomes what the method's signature asks for."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from withheld.errors import InputError, nearest

WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def split_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """`["ratio=0.6"]` as a dict.

    Raises:
        InputError: for a pair without `=`, or a key that is given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {pair}: write it as --set name=value, for example --set ratio=0.6")
        if key.strip() in found:
            raise InputError(f"--set {key.strip()} is given twice: give it once")
        found[key.strip()] = value.strip()
    return found


def typed(method: str, function: Callable[..., Any], given: Mapping[str, Any], where: str = "--set") -> dict[str, Any]:
    """Settings in the types of a method's keyword arguments, or of its recipe's fields.

    Args:
        method: its name, for the messages.
        function: its signature is its configuration.
        given: texts of the command line, or values of a YAML file.
        where: what the message says the setting came from.

    Raises:
        InputError: for a setting that the method does not have, or a value of another type.
    """
    from withheld.run import RECIPE_SETTINGS, modality_settings
    from withheld.types import Recipe

    recipe = typing.get_type_hints(Recipe)
    hints = (
        {name: recipe[name] for name in RECIPE_SETTINGS} | typing.get_type_hints(function) | modality_settings(method)
    )
    known = {name for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    known |= {*RECIPE_SETTINGS, *modality_settings(method)}
    settings = {}
    for key, value in given.items():
        if key not in known:
            raise InputError(f"{where} {key}: {method} has no such setting: {nearest(key, known)}")
        hint = hints.get(key, str)
        try:
            settings[key] = _read(value, hint)
        except (ValueError, TypeError):
            raise InputError(f"{where} {key}={value}: {method} takes {_spoken(hint)} here") from None
    return settings


def _read(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _read_any(value, arguments)
    if origin is typing.Literal:
        return (
            next(choice for choice in arguments if str(choice) == str(value))
            if _chosen(value, arguments)
            else _refuse()
        )
    if origin in (tuple, list):
        parts = value.strip("()[] ").split(",") if isinstance(value, str) else list(value)
        kinds = arguments if origin is tuple and Ellipsis not in arguments else [arguments[0]] * len(parts)
        if len(kinds) != len(parts):
            _refuse()
        return origin(_read(part, kind) for part, kind in zip(parts, kinds, strict=True))
    return _read_plain(value, hint)


def _read_any(value: Any, kinds: tuple[Any, ...]) -> Any:
    if type(None) in kinds and (value is None or str(value).lower() in ("none", "null")):
        return None
    for kind in kinds:
        if kind is not type(None):
            try:
                return _read(value, kind)
            except (ValueError, TypeError):
                continue
    return _refuse()


def _read_plain(value: Any, hint: Any) -> Any:
    if hint is bool:
        word = str(value).strip().lower()
        return WORDS[word] if word in WORDS else _refuse()
    if hint is int:
        broken = isinstance(value, bool) or (isinstance(value, float) and value != int(value))
        return _refuse() if broken else int(value)
    if hint is float:
        return _refuse() if isinstance(value, bool) else float(value)
    return str(value)


def _chosen(value: Any, choices: tuple[Any, ...]) -> bool:
    return str(value) in {str(choice) for choice in choices}


def _refuse() -> typing.NoReturn:
    raise ValueError("not of this type")


def _spoken(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(str(choice) for choice in typing.get_args(hint))}"
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(_spoken(kind) for kind in typing.get_args(hint))
    if typing.get_origin(hint) in (tuple, list):
        return "values such as 0.2,1.0"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", type(None): "none"}
    return names.get(hint, str(hint))
