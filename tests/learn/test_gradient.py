"""The loop's promises: a run is a pure function of (seed, settings, data)."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

from withheld.errors import Diverged, InputError
from withheld.learn.checkpoint import Keeper, damage, newest
from withheld.learn.gradient import Interrupted, Loop, train
from withheld.learn.optimizer import parameter_groups
from withheld.learn.schedule import Order, shards_for
from withheld.losses.prediction import squared_error
from withheld.methods.dino import dino
from withheld.methods.mae import mae
from withheld.methods.simclr import simclr
from withheld.networks.open import open_trunk
from withheld.objective import Objective
from withheld.splits.text import MaskWords, NextSentence
from withheld.types import Moment, Pair, Recipe


class Images:
    """A few random images."""

    def __init__(self, count: int = 40) -> None:
        self.t = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.t)

    def batch(self, index, device):
        return self.t[torch.from_numpy(index)].to(device)


RECIPE = Recipe(base_learning_rate=1e-2, batch_size=16, warmup=0.2)


def build() -> Objective:
    torch.manual_seed(0)
    trunk, _ = open_trunk("vit-nano", size=16, channels=3)
    return mae(trunk)[0]


def state(objective, loop) -> dict[str, torch.Tensor]:
    found = {f"model.{k}": v.clone() for k, v in objective.state_dict().items()}
    for index, entry in loop.optimizer.state_dict()["state"].items():
        found.update({f"optimizer.{index}.{k}": v.clone() for k, v in entry.items()})
    return found


def assert_same(a, b) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def run(steps: int, keeper=None, until=None):
    objective = build()
    lines: list[dict] = []
    loop = Loop(objective, Images(), RECIPE, steps=steps, seed=3)
    start = loop.resume(keeper) if keeper and keeper.resume else 0

    def listen(line):
        lines.append({k: line[k] for k in ("step", "loss", "learning_rate", "gradient_norm")})
        if line["step"] == until:
            os.kill(os.getpid(), signal.SIGTERM)

    loop.run(keeper, listen, start)
    return state(objective, loop), lines


@pytest.mark.promise("R1", "the same seed twice")
def test_same_seed_same_run_bit_for_bit():
    assert_same(run(6)[0], run(6)[0])


@pytest.mark.parametrize("stops", [[1], [4], [2, 3, 7]])
@pytest.mark.promise("R1", "stopped one to three times, in one epoch and in later ones")
def test_stopped_and_resumed_is_bit_identical(tmp_path, stops):
    whole, lines = run(8)
    seen = {}
    for number, stop in enumerate(stops):
        with pytest.raises(Interrupted) as stopped:
            _collect(tmp_path, seen, number > 0, stop)
        assert stopped.value.exit_code == 143
        assert stopped.value.step == stop
    end = _collect(tmp_path, seen, True, None)
    assert_same(whole, end)
    assert [seen[line["step"]] for line in lines] == lines


def _collect(folder, seen, resume, until):
    objective = build()
    keeper = Keeper(folder / "state", resume=resume)
    loop = Loop(objective, Images(), RECIPE, steps=8, seed=3)
    start = loop.resume(keeper) if resume else 0

    def listen(line):
        seen[line["step"]] = {k: line[k] for k in ("step", "loss", "learning_rate", "gradient_norm")}
        if line["step"] == until:
            os.kill(os.getpid(), signal.SIGTERM)

    loop.run(keeper, listen, start)
    return state(objective, loop)


def test_the_timed_warm_up_leaves_no_trace():
    objective = build()
    loop = Loop(objective, Images(), RECIPE, steps=6, seed=3)
    before = state(objective, loop)
    assert loop.seconds_per_step(least=2, at_least_seconds=0) > 0
    assert_same(before, state(objective, loop))
    loop.run()
    assert_same(run(6)[0], state(objective, loop))


def test_damaged_checkpoints_are_named_and_passed_over(tmp_path):
    keeper = Keeper(tmp_path / "state", every=0)
    train(build(), Images(), RECIPE, steps=3, seed=3, keeper=keeper)
    folders = sorted(f.name for f in keeper.state.iterdir())
    assert folders == ["step-2", "step-3"]
    rng = np.random.default_rng(0)
    for name in ("model.safetensors", "optimizer.safetensors", "loop.json", "MANIFEST.json"):
        path = keeper.state / "step-3" / name
        whole = path.read_bytes()
        for attempt in range(5):
            at = int(rng.integers(len(whole)))
            cut = whole[:at] if attempt % 2 else whole[:at] + bytes([whole[at] ^ (1 << attempt)]) + whole[at + 1 :]
            path.write_bytes(cut)
            if name == "MANIFEST.json" and damage(path.parent) is None:
                continue  # a flip inside white space changes nothing
            found, passed = newest(keeper.state)
            assert found == keeper.state / "step-2"
            assert any(words in passed[0] for words in ("is damaged", "cannot be read", "is missing"))
        path.unlink()
        assert newest(keeper.state)[0] == keeper.state / "step-2"
        path.write_bytes(whole)
    assert newest(keeper.state) == (keeper.state / "step-3", [])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.promise("R12", "a loss that is NaN or infinite")
def test_a_loss_that_is_not_finite_stops_and_is_never_kept(tmp_path, value):
    objective = build()
    count = [0]

    def loss(prediction, y):
        count[0] += 1
        return squared_error(prediction, y) * (value if count[0] == 3 else 1.0)

    objective.loss = loss
    keeper = Keeper(tmp_path / "state", every=0)
    with pytest.raises(Diverged, match="step 3") as error:
        train(objective, Images(), RECIPE, steps=6, keeper=keeper)
    assert error.value.exit_code == 3
    assert "base_learning_rate" in str(error.value)
    assert newest(keeper.state)[0].name == "step-2"
    assert all(torch.isfinite(p).all() for p in objective.parameters())


def test_every_item_once_an_epoch_and_no_short_batch():
    order = Order(10, 4, seed=1)
    seen = np.concatenate([order.step(s) for s in range(5)])
    assert len(seen) == 20
    assert sorted(seen[:10]) == list(range(10)) == sorted(seen[10:])
    assert not np.array_equal(seen[:10], seen[10:])
    assert np.array_equal(Order(10, 4, seed=1).step(3), order.step(3))


def test_a_batch_larger_than_the_data_repeats_it():
    assert (
        sorted(Order(3, 8, seed=0).step(0).tolist()) == [0, 0, 0, 1, 1, 1, 2, 2]
        or len(Order(3, 8, seed=0).step(0)) == 8
    )


@pytest.mark.parametrize(("batch", "shards"), [(256, 8), (12, 4), (7, 1), (8, 8), (6, 2)])
def test_shards_divide_the_batch(batch, shards):
    assert shards_for(batch) == shards


class _Blocks:
    """Sixteen blocks of twelve tokens."""

    def __len__(self) -> int:
        return 16

    def batch(self, index: np.ndarray, device: torch.device | str) -> dict[str, torch.Tensor]:
        return {"item": torch.from_numpy(index)[:, None] + torch.arange(5, 17)}


@pytest.mark.parametrize("batch", [8, 16])
def test_half_of_the_pairs_follow_each_other_whatever_the_batch(batch: int) -> None:
    objective = Objective(NextSentence(MaskWords(mask=4, vocabulary=40)), nn.Linear(1, 1), nn.MSELoss())
    loop = Loop(objective, _Blocks(), Recipe(batch_size=batch), steps=40)
    follow = torch.cat([pair.y["follows"] for step in range(40) for pair in loop.pieces(step)])
    assert 0.4 < follow.float().mean() < 0.6  # a part of one item has no other to exchange its half with


def test_a_single_item_has_no_other_half():
    objective = Objective(NextSentence(MaskWords(mask=4, vocabulary=40)), nn.Linear(1, 1), nn.MSELoss())
    with pytest.raises(InputError, match=r"--batch-size 1: .* at least 2"):
        Loop(objective, _Blocks(), Recipe(batch_size=1), steps=1)


def test_biases_norms_tokens_and_positions_are_not_decayed():
    objective = build()
    groups = parameter_groups(objective, RECIPE)
    names = {id(p): n for n, p in objective.named_parameters()}
    free = {names[id(p)] for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    kept = {names[id(p)] for g in groups if g["weight_decay"] > 0 for p in g["params"]}
    assert all(n.endswith("weight") for n in kept)
    assert not any("norm" in n for n in kept)
    assert any("cls_token" in n for n in free)
    assert len(free) + len(kept) == sum(p.requires_grad for p in objective.parameters())


def test_layer_decay_is_that_of_the_paper():
    objective = build()
    groups = parameter_groups(objective, RECIPE.change(layer_decay=0.5))
    names = {id(p): n for n, p in objective.named_parameters()}
    scale = {names[id(p)]: g["scale"] for g in groups for p in g["params"]}
    assert scale["network.trunk.model.embeddings.patch_embeddings.projection.weight"] == 0.5**5
    assert scale["network.trunk.model.layers.0.mlp.fc1.weight" if "network.trunk.model.layers.0.mlp.fc1.weight" in scale
                 else "network.trunk.model.encoder.layer.0.intermediate.dense.weight"] == 0.5**4  # fmt: skip
    assert scale["network.decoder.predict.weight"] == 1.0


def test_schedule_warms_up_and_ends_at_zero():
    factors = [RECIPE.factor(Moment(step, 100)) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 20)
    assert max(factors) == 1.0
    assert factors[20] == 1.0
    assert factors[-1] < 1e-3
    assert all(a >= b for a, b in itertools.pairwise(factors[20:]))


def test_a_plain_function_is_a_split():
    def left_half(t):
        middle = t.shape[-1] // 2
        return Pair(x=t[..., :middle], y=t[..., middle:])

    network = torch.nn.Conv2d(3, 3, 1)
    objective = Objective(left_half, network, squared_error)
    assert repr(objective.split) == "left_half"
    assert objective(torch.randn(4, 3, 8, 8))["loss"].ndim == 0
    with pytest.raises(TypeError, match="must return Pair"):
        Objective(lambda t: t, network, squared_error)(torch.randn(4, 3, 8, 8))


def test_term_weights_are_numbers_or_schedules():
    objective = Objective(
        lambda t: Pair(t, t), torch.nn.Identity(), lambda p, y: {"a": p.mean(), "b": p.mean()},
        weights={"a": 2.0, "b": lambda moment: moment.progress},
    )  # fmt: skip
    moment = Moment(5, 10)
    total = objective.total(objective(torch.ones(2, 1), moment), moment)
    assert float(total) == 2.5


def test_log_lines_are_json(tmp_path):
    lines = []
    train(build(), Images(), RECIPE, steps=2, listen=lines.append)
    assert json.loads(json.dumps(lines)) == lines
    assert {"step", "loss", "terms", "learning_rate", "gradient_norm", "items_per_second"} <= lines[0].keys()


class TestProgressive:
    """Views that begin small and grow."""

    def build(self, encoder: str = "conv-nano", size: int = 32) -> Objective:
        torch.manual_seed(0)
        return simclr(open_trunk(encoder, size=size, channels=3)[0])[0]

    def test_each_stage_has_as_many_pixels_and_the_last_is_whole(self):
        recipe = Recipe(progressive=0.5)
        steps, sides = zip(*recipe.stages, strict=True)
        assert sides == (0.5, 0.75, 1.0)
        assert sum(steps) == pytest.approx(1)
        pixels = [count * side**2 for count, side in recipe.stages]
        assert pixels == pytest.approx([pixels[0]] * 3)
        assert Recipe().stages == ((1.0, 1.0),)

    def test_work_is_the_share_of_pixels_so_far(self):
        recipe = Recipe(progressive=0.25)
        progress = np.linspace(0, 1, 10_001)
        sides = np.array([recipe.stage(at)[0] for at in progress])
        work = np.array([recipe.stage(at)[1] for at in progress])
        summed = np.cumsum(sides**2)
        np.testing.assert_allclose(work, summed / summed[-1], atol=1e-3)
        assert work[0] == 0
        assert work[-1] == 1
        assert (np.diff(sides) >= 0).all()

    def test_views_are_as_large_as_the_stage_says_and_lines_tell(self):
        objective = self.build()
        seen: list[int] = []
        objective.network.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-1]))
        recipe = RECIPE.change(progressive=0.5)
        lines: list[dict] = []
        train(objective, Images(), recipe, steps=20, listen=lines.append)
        sides = seen[::2]  # two views a step
        assert sides == sorted(sides)
        assert [sides.count(side) for side in (16, 24, 32)] == [12, 6, 2]
        assert [line["side"] for line in lines] == [side / 32 for side in sides]
        assert [line["work"] for line in lines] == sorted(line["work"] for line in lines)
        assert lines[-1]["work"] == 1

    def test_small_views_of_many_crops_too(self):
        torch.manual_seed(0)
        split = dino(open_trunk("conv-nano", size=32, channels=3)[0])[0].split
        x = split.shrunk(0.5)(torch.rand(4, 3, 32, 32)).x
        assert x["large"].shape[-1] == 16
        assert x["small"].shape[-1] == 8

    def test_stopped_and_resumed_is_bit_identical(self, tmp_path):
        recipe = RECIPE.change(progressive=0.5)
        whole = self.build()
        loop = train(whole, Images(), recipe, steps=10)
        parts = self.build()
        keeper = Keeper(tmp_path / "state")
        first = Loop(parts, Images(), recipe, steps=10)
        for step in range(7):
            first.step(step)
        first.save(keeper, 7)
        parts = self.build()
        second = Loop(parts, Images(), recipe, steps=10)
        second.run(start=second.resume(keeper))
        assert_same(state(whole, loop), state(parts, second))

    def test_a_step_is_timed_as_the_whole_run_has_them(self, monkeypatch):
        loop = Loop(self.build(), Images(), RECIPE.change(progressive=0.5), steps=100)
        clock = [0.0]
        monkeypatch.setattr("withheld.learn.gradient.time.perf_counter", lambda: clock[0])

        def step(_: int, moment: Moment) -> None:
            clock[0] += loop.recipe.stage(moment.progress)[0] ** 2

        monkeypatch.setattr(loop, "step", step)
        mean = np.mean([loop.recipe.stage(at / 10_000)[0] ** 2 for at in range(10_000)])
        assert loop.seconds_per_step(at_least_seconds=0.0) == pytest.approx(mean, rel=1e-3)

    @pytest.mark.parametrize(
        ("objective", "share", "message"),
        [
            (lambda self: self.build("vit-nano"), 0.5, "convolutional --encoder"),
            (lambda self: build(), 0.5, "compares no views"),
            (lambda self: self.build(), 0.1, "0.25 to 1"),
        ],
    )
    def test_where_it_cannot_be_it_is_refused(self, objective, share, message):
        with pytest.raises(InputError, match=message):
            Loop(objective(self), Images(), RECIPE.change(progressive=share), steps=10)
