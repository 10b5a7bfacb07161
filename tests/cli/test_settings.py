"""`--set` in the types of a signature."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from withheld.cli.settings import split_pairs, typed
from withheld.errors import InputError


def method(
    trunk: Any,
    *,
    ratio: float = 0.75,
    layers: int = 2,
    flip: bool = True,
    part: str = "right",
    scale: tuple[float, float] = (0.2, 1.0),
    widths: list[int] | None = None,
    kind: Literal["a", "b"] = "a",
    clip: float | None = None,
) -> None: ...


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("ratio=0.6", 0.6),
        ("ratio=1", 1.0),
        ("layers=3", 3),
        ("flip=no", False),
        ("flip=True", True),
        ("part=top", "top"),
        ("part=a=b", "a=b"),
        ("scale=0.5,1", (0.5, 1.0)),
        ("scale=(0.5, 1)", (0.5, 1.0)),
        ("widths=64,32", [64, 32]),
        ("widths=none", None),
        ("kind=b", "b"),
        ("clip=None", None),
        ("clip=3", 3.0),
        ("base_learning_rate=5e-4", 5e-4),
        ("betas=0.9,0.95", (0.9, 0.95)),
        ("schedule=constant", "constant"),
    ],
)
def test_values_take_the_type_of_the_signature(text: str, value: Any) -> None:
    found = typed("method", method, split_pairs([text]))
    assert list(found.values()) == [value]
    assert type(next(iter(found.values()))) is type(value)


@pytest.mark.parametrize(
    "text",
    ["ratio=high", "layers=2.5", "layers=x", "flip=maybe", "scale=1", "widths=a,b", "kind=c", "clip=x", "ratio="],
)
def test_a_value_of_another_type_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=text.split("=")[0]):
        typed("method", method, split_pairs([text]))


def test_yaml_values_are_checked_too() -> None:
    assert typed("method", method, {"ratio": 1, "layers": 2, "flip": False, "scale": [0.1, 1]}) == {
        "ratio": 1.0,
        "layers": 2,
        "flip": False,
        "scale": (0.1, 1.0),
    }
    for wrong in ({"layers": 2.5}, {"layers": True}, {"ratio": True}, {"flip": 3}):
        with pytest.raises(InputError):
            typed("method", method, wrong)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'ratio'"):
        typed("method", method, {"rato": "1"})


@pytest.mark.parametrize("pairs", [["ratio"], ["=1"], ["ratio=1", "ratio=2"]])
def test_pairs_that_are_none(pairs: list[str]) -> None:
    with pytest.raises(InputError, match="--set"):
        split_pairs(pairs)
