"""What is done about an illness, and that a run which was treated, killed and resumed ends as one that never stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import withheld
from withheld.errors import Diverged, InputError
from withheld.learn.care import Sick
from withheld.learn.remedy import WarmUp
from withheld.learn.watch import affordable, appointments
from withheld.types import Moment

HIGH = {"width": 16, "base_learning_rate": 3.0}
"""Settings at which a VAE learns nothing: steps of 75 % of the weights."""


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().images[:128] * 255 / 16).astype(np.uint8)


def pretrained(digits: np.ndarray, out: Path, **more: Any) -> withheld.run.Run:
    given = {"steps": 60, "batch_size": 32, "pictures": False, "device": "cpu", "settings": HIGH, **more}
    return withheld.pretrain("vae", digits, out, **given)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def test_appointments_are_early_and_include_the_last() -> None:
    for steps in (1, 2, 7, 100, 100_000):
        every = appointments(steps)
        assert every == sorted(set(every))
        assert every[0] == 1
        assert every[-1] == steps
        few = appointments(steps, 0)
        assert set(few) <= set(every)
        assert len(few) <= 5
    assert sum(step <= 20_000 for step in appointments(100_000, 7)) == 5
    assert appointments(1000, 0) == [1, 50, 100, 200, 1000]
    assert affordable(1.0, 6000, 6.0) == 10


def test_stop_ends_with_code_3_and_can_go_on(digits: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(Sick, match=r"learning rate too large.*Cure, in a new run \(another --out\): lower") as stopped:
        pretrained(digits, tmp_path / "run", on_sick="stop")
    assert stopped.value.exit_code == 3
    assert stopped.value.step <= 12
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["step"], status["resumable"]) == ("sick", stopped.value.step, True)
    run = pretrained(digits, tmp_path / "run", on_sick="warn", resume=True)
    assert len(run.log()) == 60


def test_fix_goes_back_with_a_lower_rate_and_resumes_bit_for_bit(
    digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each run times for itself how often vitals are cheap enough; here runs are compared that a busy machine times otherwise.
    monkeypatch.setattr("withheld.learn.watch.affordable", lambda *timed: 10)
    whole = pretrained(digits, tmp_path / "whole", on_sick="fix")
    treatments = json.loads((tmp_path / "whole" / "run.json").read_text())["treatments"]
    assert treatments[0]["remedy"] == "lower learning rate"
    assert [line["step"] for line in whole.log()] == list(range(1, 61))
    told = [line for line in whole.log() if "treatment" in line]
    assert told
    rates = {line["step"]: line["learning_rate"] for line in whole.log()}
    assert max(rates.values()) < 3.0 * 32 / 256 / 2.9  # from the very start

    def killer(at: int) -> Any:
        def listen(event: dict[str, Any]) -> None:
            if event["kind"] == "step" and event["step"] == at and "treated" not in listen.__dict__:
                raise KeyboardInterrupt

        return listen

    for at in (4, 40):
        out = tmp_path / f"killed-{at}"
        with pytest.raises(KeyboardInterrupt):
            pretrained(digits, out, on_sick="fix", save_every=0.0, listen=killer(at))
        pretrained(digits, out, on_sick="fix", resume=True)
        assert json.loads((out / "run.json").read_text())["treatments"] == treatments
        mine = weights(out)
        for name, tensor in weights(tmp_path / "whole").items():
            assert torch.equal(tensor, mine[name]), (at, name)


def test_a_cure_counts_from_the_rate_that_a_remedy_left(digits: np.ndarray, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    pretrained(digits, tmp_path / "run", on_sick="fix", listen=told.append)
    kinds = [(each["kind"], each.get("illness")) for each in told if each["kind"] in ("health", "note")]
    assert kinds.index(("health", "learning rate too large")) < kinds.index(
        ("note", None)
    )  # what it is, then what is done
    treated = json.loads((tmp_path / "run" / "run.json").read_text())["treatments"]
    steps = [at for at, each in enumerate(told) if each["kind"] == "note" and "learning rate times" in each["text"]]
    assert len(steps) == sum("factor" in each for each in treated) > 0
    cures = [each["cure"] for each in told[steps[0] :] if each["kind"] == "health" and "rate too" in each["illness"]]
    assert cures
    assert not any("base_learning_rate=0.3," in cure or "base_learning_rate=1," in cure for cure in cures), cures


def test_fix_cannot_be_taken_up_by_a_run_that_began_without(digits: np.ndarray, tmp_path: Path) -> None:
    pretrained(digits, tmp_path / "run", steps=3, settings={"width": 16})
    with pytest.raises(InputError, match="on_sick: warn -> fix"):
        pretrained(digits, tmp_path / "run", steps=3, settings={"width": 16}, on_sick="fix", resume=True)
    with pytest.raises(InputError, match="on_sick"):
        pretrained(digits, tmp_path / "other", steps=3, on_sick="pray")


def test_warm_up_begins_again_at_0() -> None:
    weight = WarmUp(lambda moment: 2.0, begin=10, steps=20)
    assert [weight(Moment(step, 100)) for step in (9, 10, 20, 30, 99)] == [2.0, 0.0, 1.0, 2.0, 2.0]


def test_a_divergence_is_fixed_too(digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from withheld.learn.gradient import Loop

    step_of, out = Loop.step, tmp_path / "warned"

    def breaks(self: Loop, step: int, *moment: Any) -> dict[str, Any]:
        if step == 30 and self.recipe.learning_rate > 2e-4:
            self.at = step
            raise Diverged("step 31: the loss is not a finite number")
        return step_of(self, step, *moment)

    monkeypatch.setattr(Loop, "step", breaks)
    settings = {"width": 16}
    with pytest.raises(Diverged):
        pretrained(digits, out, settings=settings)
    run = pretrained(digits, tmp_path / "fixed", settings=settings, on_sick="fix")
    treatments = json.loads((tmp_path / "fixed" / "run.json").read_text())["treatments"]
    assert {"divergence"} <= {each["illness"] for each in treatments}
    assert len(run.log()) == 60
