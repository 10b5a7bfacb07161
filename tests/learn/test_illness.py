"""Every illness, induced: each is named rightly within the first fifth of the run, and the same run without it is not sick."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import withheld
from withheld.cli import main
from withheld.learn.health import eigenvalue_decay, untouched, view_vitals, vitals
from withheld.learn.illness import OK, SICK, WARN, Case, Checkup, Facts, Finding, History
from withheld.learn.intake import intake
from withheld.learn.rules import codes
from withheld.learn.rules_of_training import RULES
from withheld.learn.watch import Patient, Watch
from withheld.lock import locked
from withheld.losses.contrast import NTXent
from withheld.networks.open import open_trunk
from withheld.networks.quantizer import Quantizer, perplexity
from withheld.objective import Objective
from withheld.run import describe_methods, load_method

sys.path.insert(0, str(Path(__file__).parent))
from induced import INDUCED, Noisy, Projected, Way, named_at, points

SLOW = {"kl_to_zero"}
WAYS = [pytest.param(way, id=way.__name__, marks=[pytest.mark.slow] if way.__name__ in SLOW else []) for way in INDUCED]


@pytest.mark.parametrize("way", WAYS)
def test_an_illness_is_named_within_a_fifth_of_the_run(way: Way, tmp_path: Path) -> None:
    found = way(True, tmp_path)
    steps = found[0][1]
    at = named_at(found, INDUCED[way])
    assert at is not None, found
    assert at <= max(2, 0.2 * steps)
    early = set().union(*(names for step, _, names in found if step <= 0.2 * steps))
    assert early <= {INDUCED[way]}, "only what it has is named"


@pytest.mark.parametrize("way", WAYS)
def test_the_same_without_the_illness_is_not_called_sick(way: Way, tmp_path: Path) -> None:
    found = way(False, tmp_path)
    assert not set().union(*(names for _, _, names in found)), found


def test_doctor_names_illness_and_cure(tmp_path: Path) -> None:
    images = (np.random.default_rng(0).random((60, 16, 16)) * 255).astype(np.uint8)
    out = tmp_path / "run"
    withheld.pretrain(
        "mae", images, out, steps=3, batch_size=16, settings={"ratio": 0.05}, pictures=False, device="cpu"
    )
    found = CliRunner().invoke(main, ["doctor", str(out)])
    assert found.exit_code == 0
    assert "sick: hardly anything hidden" in found.output
    assert "--set" in found.output
    assert "ratio=0.75" in found.output
    assert CliRunner().invoke(main, ["doctor", str(out), "--strict"]).exit_code == 1
    assert CliRunner().invoke(main, ["report", str(out)]).exit_code == 0
    page = (out / "report.html").read_text()
    assert "This run is sick: hardly anything hidden." in page
    assert "ratio=0.75" in page


def test_doctor_of_no_run_is_exit_code_2(tmp_path: Path) -> None:
    import subprocess

    command = [sys.executable, "-m", "withheld", "doctor", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not a run" in done.stderr


def lines(**vitals: list[float]) -> list[dict]:
    """A log with a checkup a step."""
    count = len(next(iter(vitals.values())))
    return [
        {
            "step": 10 * (i + 1),
            "steps": 10 * count,
            "loss": 1.0,
            "vitals": {name: values[i] for name, values in vitals.items()},
        }
        for i in range(count)
    ]


def judged(facts: Facts, log: list[dict]) -> list[set[tuple[str, str]]]:
    history = History(facts, RULES)
    return [{(each.illness, each.state) for each in history.hear(line) or [] if each.illness} for line in log]


def test_once_is_a_warning_twice_is_sick_and_well_again_is_well() -> None:
    facts = Facts(width=192, sample=128)
    log = lines(effective_rank=[60.0, 50, 2, 2, 40, 50, 2, 60, 60, 60], feature_spread=[0.5] * 10)
    name = "dimensional collapse"
    states = [dict(found).get(name) for found in judged(facts, log)]
    assert states == [None, None, WARN, SICK, None, None, WARN, None, None, None]
    assert judged(facts, log) == judged(facts, log)


def test_too_early_is_never_sick() -> None:
    facts = Facts(width=192, sample=128)
    log = lines(effective_rank=[60.0, 1.0], feature_spread=[0.5, 0.0])
    for line in log:
        line["steps"] = 10_000
    assert judged(facts, log) == [set(), set()]


def rated(steps: int, warmup: float, held_out: float = 8.0, last: int = 6) -> History:
    """The first steps, each of which changes the weights by 30 %."""
    history = History(Facts(width=32, sample=64, warmup=warmup), RULES)
    for step in range(1, last + 1):
        loss = 8.0 if step == 1 else held_out
        vitals = {"update_ratio": 0.3, "held_out_loss": loss}
        history.hear({"step": step, "steps": steps, "loss": loss, "gradient_norm": 1.0, "vitals": vitals})
    return history


def test_long_steps_that_teach_nothing_are_named_before_they_are_very_long() -> None:
    """A masked autoencoder at 30 times its rate, a hundred steps of it."""

    def judged_at(ratio: float, held_out: list[float]) -> list[Finding]:
        history = History(Facts(width=192, sample=64, batch=64, warmup=0.1), RULES)
        for step, loss in zip((1, 5, 10, 15), held_out, strict=True):
            vitals = {"update_ratio": ratio, "held_out_loss": loss, "constant_loss": 0.97}
            history.hear({"step": step, "steps": 100, "loss": loss, "gradient_norm": 1.0, "vitals": vitals})
        return [each for each in history.findings if each.vital == "learning rate"]

    (ill,) = judged_at(0.057, [1.74, 1.08, 1.06, 1.03])
    assert (ill.state, ill.illness) == (SICK, "learning rate too large")
    assert "constant answer" in ill.reason
    assert [each.state for each in judged_at(0.01, [1.74, 1.08, 1.06, 1.03])] == [OK], "a slow start"
    assert [each.state for each in judged_at(0.057, [1.74, 1.08, 0.93, 0.9])] == [OK], "it learns"


def test_a_run_too_short_for_its_warm_up_is_not_sick_of_its_rate() -> None:
    assert rated(8, 0.05).state != SICK
    found = {each.vital: each for each in rated(8, 0.05).findings}["learning rate"]
    assert found.state == "not yet"
    assert "too short" in found.value
    assert rated(200, 0.05).state == SICK, "with a warm-up it is"
    assert rated(60, 0.02, last=12).state == SICK, "long enough to recover"
    assert rated(8, 0.0).state == SICK, "also where there should be none"
    assert rated(8, 0.05, held_out=80.0).state == WARN, "a loss that rises is told all the same"


def test_the_first_steps_of_a_short_run_may_be_long() -> None:
    assert rated(60, 0.05).state != SICK
    assert {each.vital: each for each in rated(60, 0.05).findings}["learning rate"].state == "not yet"
    assert rated(60, 0.05, last=12).state == SICK, "a fifth of the run"
    assert rated(60, 0.05, held_out=80.0).state == SICK, "a loss that rises is told all the same"


def test_a_loss_of_all_items_of_a_step_is_not_compared_with_that_of_more() -> None:
    images = (np.random.default_rng(0).random((30, 16, 16)) * 255).astype(np.uint8)
    objective, _ = load_method("lejepa")(open_trunk("vit-nano", size=16, channels=1, patch=4)[0])
    found = intake(objective, torch.from_numpy(images[:, None]).float())
    assert found["at_once"] == 1.0
    states = {}
    for batch in (4, 30):
        history = History(Facts(width=32, sample=30, batch=batch), RULES)
        for step in range(1, 4):
            vitals = {**(found if step == 1 else {}), "update_ratio": 1e-4, "sample_loss": 1.21}
            history.hear({"step": step, "steps": 60, "loss": 0.22, "gradient_norm": 1.0, "vitals": vitals})
        states[batch] = {each.vital: each.state for each in history.findings}["learning rate"]
    assert states == {4: OK, 30: SICK}


def told(held_out: list[float], training: list[float], batch: int) -> History:
    """A run whose loss is of all items of a step; 32 are held out, each was seen several times."""
    history = History(Facts(width=256, sample=32, batch=batch), RULES)
    for at, (outside, inside) in enumerate(zip(held_out, training, strict=True)):
        vitals = {"at_once": 1.0, "held_out_loss": outside, "update_ratio": 0.01}
        history.hear({"step": 10 * at + 1, "steps": 100, "epoch": 2.0 * at, "loss": inside, "vitals": vitals})
    return history


def test_covariances_of_a_few_held_out_items_rise_while_all_is_well() -> None:
    """VICReg of 1,600 photographs: 24.7, 21.6, ... of 32 held out ones, and features that tell them apart."""
    held_out, training = [24.7, 21.6, 26.7, 64.8, 90.4, 53.4], [21.1, 19.9, 19.3, 19.0, 18.7, 18.4]
    assert not [each for each in told(held_out, training, batch=256).findings if each.illness]
    beyond = told(held_out, [21.1, 19.9, 24.0, 60.0, 80.0, 80.0], batch=256)
    assert {each.illness for each in beyond.findings if each.state == SICK} == {"learning rate too large"}
    as_many = told(held_out, training, batch=32)
    assert "learned by heart" in {each.illness for each in as_many.findings}, (
        "a step has no more items than are held out"
    )


def test_the_watch_looks_at_views_of_the_side_that_is_trained_now() -> None:
    images = torch.from_numpy((np.random.default_rng(0).random((40, 3, 32, 32)) * 255).astype(np.uint8)).float()
    objective, _ = load_method("simclr")(open_trunk("conv-nano", size=32, channels=3)[0])
    sides: list[int] = []
    objective.network.register_forward_pre_hook(lambda _, given: sides.append(given[0].shape[-1]))
    patient = Patient(objective, images, held_out=True, seconds={})
    watch = Watch(patient, Facts(modality="image", width=256, sample=40, batch=40), steps=[1, 2])
    for step, side in ((1, 0.5), (2, 1.0)):
        watch.hear({"step": step, "steps": 2, "loss": 4.0, "gradient_norm": 1.0, "side": side})
    assert sides[:2] == [16, 16]
    assert sides[-2:] == [32, 32]


def test_overfitting_is_seen_in_the_held_out_loss() -> None:
    log = lines(held_out_loss=[5.0, 4, 3, 2.5, 2.6, 3.2, 4.5, 4.9])
    for line, loss in zip(log, [5.0, 4, 3, 2, 1.5, 1, 0.5, 0.3], strict=True):
        line["loss"] = loss
    found = judged(Facts(width=64, sample=64), log)
    assert ("learned by heart", SICK) in found[-1]
    assert not any(state == SICK for _, state in found[4])


def test_nothing_is_known_by_heart_before_an_item_is_seen_twice() -> None:
    log = lines(held_out_loss=[5.0, 4, 3, 2.5, 2.6, 3.2, 4.5, 4.9])
    for i, (line, loss) in enumerate(zip(log, [5.0, 4, 3, 2, 1.5, 1, 0.5, 0.3], strict=True)):
        line["loss"], line["epoch"] = loss, 0.1 * (i + 1)
    facts = Facts(width=64, sample=64)
    assert not any(illness == "learned by heart" for found in judged(facts, log) for illness, _ in found)
    for line in log:
        line["epoch"] *= 10
    assert ("learned by heart", SICK) in judged(facts, log)[-1]


def test_view_vitals_of_a_point_and_of_a_sphere() -> None:
    point = view_vitals(torch.ones(9, 4), torch.ones(9, 4))
    assert [point[name] for name in ("alignment", "uniformity", "view_spread")] == pytest.approx([0, 0, 0], abs=1e-5)
    torch.manual_seed(0)
    sphere = view_vitals(torch.randn(400, 64), torch.randn(400, 64))
    assert sphere["alignment"] == pytest.approx(2, abs=0.05)
    assert sphere["uniformity"] == pytest.approx(-4 + 8 / 64, abs=0.05)
    assert sphere["view_spread"] == pytest.approx(1, abs=0.05)


def test_eigenvalue_decay_of_a_known_spectrum() -> None:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(400, 40)).Q
    basis = torch.linalg.qr(basis - basis.mean(dim=0)).Q
    eigenvalues = torch.arange(1, 41).double() ** -1.3
    assert eigenvalue_decay((basis.double() * eigenvalues.sqrt()).float()) == pytest.approx(1.3, abs=0.02)


class Counting(Projected):
    """A network with a buffer that every forward pass in training changes."""

    def __init__(self) -> None:
        super().__init__(48)
        self.norm = torch.nn.BatchNorm1d(48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.norm(x))


def test_vitals_leave_the_model_and_the_generator_as_they_were() -> None:
    objective = Objective(Noisy(), Counting(), NTXent(0.5), target="network")
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    first = vitals(objective, points(64))
    assert torch.equal(torch.rand(3), expected)
    assert objective.training
    for name, value in objective.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert vitals(objective, points(64)) == first
    with untouched(objective):
        objective.network.norm.running_mean.fill_(9.0)
    assert torch.equal(objective.network.norm.running_mean, before["network.norm.running_mean"])


def test_restarted_codes_lie_where_vectors_are() -> None:
    book = Quantizer(4, 16)
    book.book[1:] += 1e3
    vectors = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    assert perplexity(book.nearest(vectors), 16) == pytest.approx(1.0)
    assert book.revive(vectors) == 15
    assert perplexity(book.nearest(vectors), 16) > 8


def test_features_of_one_item_are_never_called_alike() -> None:
    objective = Objective(Noisy(), Projected(48), NTXent(0.5), target="network")
    assert objective.trunk is not None
    assert "feature_spread" in vitals(objective, points(64))
    assert not {"feature_spread", "effective_rank"} & set(vitals(objective, points(64)[:1]))


def test_many_copies_are_counted_in_plain_digits() -> None:
    found = History(Facts(items=1485), RULES).hear({"step": 1, "vitals": {"copies": 1484.0}})
    told = next(one for one in found or [] if one.vital == "copies")
    assert told.value == "1,484 near-copies of an item"


@pytest.mark.parametrize(
    ("dead", "said"), [(0, "the 512 codes of the top book are chosen so unevenly that they"), (400, "400 of 512 codes")]
)
def test_codes_that_are_not_dead_yet_are_not_called_never_chosen(dead: int, said: str) -> None:
    """The running mean takes hundreds of steps to forget a code: "0 of 512 codes are never chosen" explained nothing."""
    told = {"top_perplexity": 1.0, "top_dead_codes": float(dead), "top_codes": 512.0}
    found = codes(Case([Checkup(60, 60, told)], Facts()))
    assert found is not None
    assert found.state == SICK
    assert found.reason.startswith(said)
    assert found.reason.endswith("are worth 1.0")


def test_equal_items_are_no_collapse() -> None:
    history = History(Facts(width=32, sample=32, items=150, batch=16), RULES)
    same = {"effective_rank": 1.0, "feature_spread": 0.0, "copies": 149.0}
    for step in (1, 25, 50):
        found = history.hear({"step": step, "steps": 100, "vitals": same})
    assert {one.illness for one in found or [] if one.illness} == {"duplicated data", "alike from the start"}
    assert "learning rate" not in " ".join(one.cure for one in found or [])


@pytest.mark.parametrize("method", ["mae", "ijepa", "data2vec", "data2vec_text", "bert", "videomae"])
def test_the_cure_of_what_is_hardly_hidden_is_a_setting_of_the_method(method: str) -> None:
    known = next(each for each in describe_methods() if each["name"] == method)
    facts = Facts(modality=known["modality"], knows=list(known["settings"]))
    for share in (0.01, 0.99):
        found = History(facts, RULES).hear({"step": 1, "vitals": {"hidden_share": share}})
        cure = next(one.cure for one in found or [] if one.vital == "hidden part")
        names = re.findall(r"--set (\w+)=", cure)
        assert names
        assert set(names) <= set(known["settings"])
    assert "--set" not in str(History(Facts(), RULES).hear({"step": 1, "vitals": {"hidden_share": 0.01}}))


def test_doctor_tells_of_what_a_run_was_sick_with(tmp_path: Path) -> None:
    lines = [
        {"step": step, "steps": 200, "loss": 1.0, "vitals": {"update_ratio": ratio}}
        for step, ratio in ((20, 0.3), (40, 0.3), (60, 0.3), (80, 0.01), (200, 0.001))
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "run.json").write_text(json.dumps({"method": "vae", "title": "vae", "format": 1}))
    found = CliRunner().invoke(main, ["doctor", str(tmp_path)])
    assert found.exit_code == 0
    assert found.stdout.splitlines()[-1] == "healthy"
    assert "it ended" not in found.stderr
    assert "earlier: learning rate too large, sick at step 40 to 60" in found.stderr


def test_doctor_says_whether_a_run_goes_on(tmp_path: Path) -> None:
    lines = [
        {"step": step, "steps": 200, "loss": 1.0, **({"vitals": {"data_wait": 0.0}} if step == 1 else {})}
        for step in (1, 9)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "run.json").write_text(json.dumps({"method": "vae", "title": "vae", "format": 1}))

    def said(state: str, reason: str = "") -> str:
        (tmp_path / "status.json").write_text(json.dumps({"state": state, "reason": reason}))
        return CliRunner().invoke(main, ["doctor", str(tmp_path)]).stderr

    with locked(tmp_path):
        assert "it goes on: step 9 of 200 was the last one written" in said("running")
    assert "it ended at step 9 of 200, without a word, as where its process is killed; to go on: withheld" in said(
        "running"
    )
    assert f"it ended at step 9 of 200 (Ctrl-C); to go on: withheld pretrain ... --out {tmp_path}" in said(
        "stopped", "Ctrl-C"
    )
    assert "for it was sick; all the same: " in said("sick", "stopped at step 9: ...")
    assert "--resume --on-sick warn" in said("sick")
