"""Continuing from a trained encoder: heads that know nothing yet shall not undo what it knows."""

from __future__ import annotations

from withheld.errors import InputError
from withheld.types import Recipe

REST, TRUNK_RATE = 0.1, 0.2


def safe(recipe: Recipe) -> Recipe:
    """The recipe for a trained encoder: it rests while new heads warm up, then learns slowly, from views of the size it knows."""
    return recipe.change(rest=REST, trunk_rate=TRUNK_RATE, progressive=1.0)


def checked(recipe: Recipe, trained: bool) -> str:
    """What the user should know of how the trunk is trained; nothing where it is trained as everything else.

    Raises:
        InputError: for settings that are none.
    """
    if not 0 <= recipe.rest < 0.5:
        raise InputError(f"rest={recipe.rest}: the share of the steps in which the trunk stands still, 0 to below 0.5")
    if not recipe.trunk_rate >= 0:
        raise InputError(f"trunk_rate={recipe.trunk_rate}: times the learning rate, 0 or more")
    if not trained or (not recipe.rest and recipe.trunk_rate == 1):
        return ""
    return (
        f"continues from a trained encoder: it stands still for the first {recipe.rest:.0%} of the steps while new heads warm up, "
        f"then learns at {recipe.trunk_rate:g} times their rate (for neither: --set rest=0 --set trunk_rate=1)"
    )
