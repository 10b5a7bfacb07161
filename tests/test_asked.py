"""What a run was asked for, and how run.json keeps it."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields, replace

import withheld
from withheld.asked import Asked
from withheld.resuming import taken_up

ASKED = Asked(encoder="vit-nano", epochs=2.0, settings={"crop": 0.5}, seed=3, accumulate=2)


def test_run_json_keeps_it_and_gives_it_back():
    chosen = replace(ASKED, auto={"why": "few", "measured": "once"})
    for asked in (Asked(), ASKED, chosen):
        assert Asked.from_json(json.loads(json.dumps(asked.to_json()))) == asked
    assert "auto" not in ASKED.to_json()
    assert chosen.to_json()["auto"] == chosen.auto


def test_what_an_older_run_could_not_be_asked_for_was_not_asked_for():
    older = {"encoder": "auto", "minutes": 1.0, "seed": 3, "settings": {}, "a setting that is no more": 1}
    assert Asked.from_json(older) == Asked(minutes=1.0, seed=3)


def test_it_has_the_names_and_defaults_of_pretrain():
    taken = inspect.signature(withheld.pretrain).parameters
    for each in fields(Asked):
        if each.name not in ("settings", "auto"):
            assert taken[each.name].default == each.default


def test_what_is_asked_again_wins_and_a_length_takes_the_place_of_another():
    now = taken_up(Asked(steps=5, settings={"crop": 0.3, "flip": 1}, shard=True), ASKED)
    assert now == replace(ASKED, epochs=None, steps=5, settings={"crop": 0.3, "flip": 1}, shard=True)
    assert taken_up(Asked(), ASKED) == ASKED
