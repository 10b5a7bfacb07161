"""Which illnesses are named, how soon, and what healthy recipes are called: writes docs/health.md.

    python benchmarks/illnesses.py [--images DIR] [--texts DIR] [--clips DIR] [--steps 150] [--runs RUN ...]
        [--keep docs/health.md] [-o docs/health.md]

Illnesses are those of tests/learn/induced.py, each beside the same run without it. Healthy recipes that fit the data given are
trained for some steps each, at their defaults but with batches of 32; finished runs are judged by their logs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import withheld
from withheld.learn.gradient import Loop
from withheld.learn.health import vitals
from withheld.learn.illness import OK, ORDER, SICK, WARN, History, facts_of
from withheld.learn.rules_of_training import RULES
from withheld.networks.open import open_trunk
from withheld.run import load_method, open_run

WELLS = "## Healthy recipes, and the worst that was said of them at any step"
PARTIAL = "update_ratio"
"""A vital that came last: logs without it are older than several."""
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "learn"))
from induced import INDUCED, Rows, named_at  # noqa: E402

RECIPES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "images": [
        ("mae", {}), ("relative_position", {}), ("colorization", {}), ("exemplar", {}), ("vae", {"steps": 600}),
        ("vq_vae2", {"size": 32}), ("patch_dictionary", {}),
    ],
    "texts": [("bert", {"size": 64}), ("gpt", {"size": 64}), ("sentence_vae", {"size": 32, "steps": 300})],
    "clips": [
        ("videomae", {"size": 32}), ("next_frame", {"size": 32, "settings": {"frames": 8}}), ("frame_order", {"size": 32}),
        ("arrow_of_time", {"size": 32}), ("track_color", {"size": 32}),
    ],
}  # fmt: skip

HEAD = """# Health

A loss says little: it falls while features collapse, and stands still while they get better. So every run is watched. At the
first step, at the last, and in between as often as it costs less than a hundredth of the training, vitals are taken from a
fixed batch of items (never learned from, where the data has enough) and judged:

| state | means |
| --- | --- |
| ok | as it should be |
| warn | worth a look; also what was found once and may be chance |
| sick | an illness, found twice in a row, or once where it lies in the data |
| not yet | too early to tell |

    withheld doctor RUN                       the table of a run, also of one that is still going on; --strict for scripts
    withheld pretrain ... --on-sick stop      stops after a checkpoint, exit code 3
    withheld pretrain ... --on-sick fix       applies the documented remedy, at most three times, and writes it down

Remedies: a third of the learning rate, from the last healthy checkpoint (collapses, too high a learning rate, a loss that is
not finite); the weight of the KL rises from 0 again (posterior collapse); codes that are never chosen start anew at vectors of
a batch (dead codes). What lies in the data is told and left to you. With stop and fix the appointments are fixed before the
first step, from a timing, so that a run that is killed and resumed ends bit for bit as one that never stopped. Five
appointments are always kept, each about as dear as a step and a half: so vitals of a run of less than a thousand steps may cost
more than a hundredth.

The label-free score of downstream quality is RankMe, the effective rank of the features (Garrido et al. 2023,
https://arxiv.org/abs/2210.02885); alpha-ReQ (Agrawal et al. 2022, https://openreview.net/forum?id=ii9X4vtZGTZ) stands beside
it. Compare them between runs of one method on the same data; across methods they say little, and only `withheld evaluate` says
what a run is worth.

"""


def induced(keep: Path | None) -> list[str]:
    """A table of illnesses made on purpose; rows that are kept are not made again."""
    known = keep.read_text(encoding="utf-8").splitlines() if keep and keep.is_file() else []
    out = [
        "| illness | made by | steps | named at | others named in the first fifth | the same without it |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for way, name in INDUCED.items():
        made = " ".join((way.__doc__ or "").split())
        kept = [line for line in known if line.startswith(f"| {name} | {made} |")]
        if kept:
            out.append(kept[0])
            continue
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            found, well = way(True, Path(one)), way(False, Path(two))
        steps, at = found[0][1], named_at(found, name)
        others = set().union(*(names for step, _, names in found if step <= 0.2 * steps)) - {name}
        sick = set().union(*(names for _, _, names in well))
        when = "never" if at is None else f"{at} ({100 * at / steps:.0f} %)"
        out.append(f"| {name} | {made} | {steps} | {when} | {said(others)} | {said(sick) if sick else 'not sick'} |")
        print(out[-1], flush=True)
        if keep:
            with open(keep, "a", encoding="utf-8") as file:
                file.write(out[-1] + "\n")
    return out


def costs() -> list[str]:
    """Vitals beside steps, processor time, random images of 28 pixels."""
    out = ["| method | batch | a checkup, in steps |", "| --- | --- | --- |"]
    for method, encoder, batch in (("mae", "vit-nano", 64), ("vae", "mlp-vae", 128)):
        trunk = open_trunk(encoder, size=28, channels=1, patch=4)[0]
        objective, how = load_method(method)(trunk)
        t = torch.rand(512, 1, 28, 28)
        objective.fit_parts(t[:32])
        loop = Loop(objective, Rows(t), how.change(batch_size=batch), steps=100)
        spent = {"steps": [], "vitals": []}
        for step in range(12):
            begun = time.process_time()
            loop.step(step)
            between = time.process_time()
            vitals(objective, t[:batch], held_out=True)
            spent["steps"].append(between - begun)
            spent["vitals"].append(time.process_time() - between)
        ratio = sorted(spent["vitals"])[6] / sorted(spent["steps"])[6]
        out.append(f"| {method} | {batch} | {ratio:.2f} |")
        print(out[-1], flush=True)
    return out


def healthy(options: argparse.Namespace) -> list[str]:
    """A table of recipes as they are."""
    out = [
        "| recipe | data | steps | checkups | warned of | called sick |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for kind, methods in RECIPES.items():
            data = getattr(options, kind)
            for method, given in methods if data else []:
                if options.only and method not in options.only:
                    continue
                out.append(trained(method, data, Path(folder) / method, {"steps": options.steps, **given}))
                print(out[-1], flush=True)
    out += [row(open_run(run)) for run in options.runs]
    anew = {tuple(line.split(" | ")[:2]) for line in out}
    out += [line for line in kept_wells(options.keep) if tuple(line.split(" | ")[:2]) not in anew]
    return out[:2] + sorted(out[2:])


def kept_wells(keep: Path | None) -> list[str]:
    """The rows of healthy recipes on an earlier page."""
    page = keep.read_text(encoding="utf-8") if keep and keep.is_file() else ""
    _, _, table = page.partition(WELLS)
    return [line for line in table.partition("\n## ")[0].splitlines() if line.startswith("| ")][1:]


def trained(method: str, data: str, folder: Path, given: dict[str, Any]) -> str:
    return row(withheld.pretrain(method, data, folder, batch_size=32, pictures=False, device="cpu", **given))


def row(run: Any) -> str:
    """The worst states of a run, judged anew by its log."""
    history = History(facts_of(run.settings), RULES)
    worst: dict[str, str] = {}
    for line in run.log():
        for each in history.hear(line) or []:
            if ORDER.index(each.state) > ORDER.index(worst.get(each.illness, OK)):
                worst[each.illness] = each.state
    warned, sick = (said({name for name, state in worst.items() if state == wanted}) for wanted in (WARN, SICK))
    where = Path(str(run.settings["data"].get("location") or "")).name
    partial = "" if PARTIAL in (history.checkups[0].vitals if history.checkups else {}) else " †"
    cells = [run.settings["method"], where + partial, run.settings["steps"], len(history.checkups), warned, sick]
    return f"| {' | '.join(map(str, cells))} |"


def said(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def main() -> None:
    """Prints both tables, and writes the page where one is named."""
    parser = argparse.ArgumentParser()
    for name in RECIPES:
        parser.add_argument(f"--{name}")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--runs", nargs="*", default=[])
    parser.add_argument(
        "--keep", type=Path, help="a file of finished rows, or an earlier page: what is there is not done again"
    )
    parser.add_argument("-o", type=Path)
    options = parser.parse_args()
    begun = time.monotonic()
    ills, wells, dear = induced(options.keep), healthy(options), costs()
    page = HEAD + "## Illnesses, made on purpose\n\n" + "\n".join(ills)
    page += "\n\nMade by `tests/learn/induced.py`, seed 0. All must be named within the first fifth of the run.\n"
    if len(wells) > 2:
        page += f"\n{WELLS}\n\n" + "\n".join(wells) + "\n"
        page += "\nJudged by their logs, with the rules of today; what a log does not hold is not judged. † older than the vitals\n"
        page += "of inputs, copies, targets and the length of a step.\n"
    page += "\n## What a checkup costs\n\n" + "\n".join(dear) + "\n"
    page += "\nProcessor time, medians of 12 in turn. Near-copies of images are looked for once, in half a second.\n"
    if options.o:
        options.o.write_text(page, encoding="utf-8")
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
