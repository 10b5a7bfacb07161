"""How long the commands of the README keep a user waiting, one after the other, on a folder of images.

    python benchmarks/commands.py --photos photos/ --labelled labelled/ [--texts reviews.csv --labels-of-texts labelled.csv]
        [--only evaluate,check] [--profile 25] [--out runs/commands]

Training is one step (`--steps 1`), so what is left is what everybody waits for: starting, looking at the data, decoding, building,
writing, drawing. "First word" is when something appears, warm is the same command a second time, where a cache may help.
--profile N prints, for each command, the N functions in which most time went.
"""

from __future__ import annotations

import argparse
import os
import pstats
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

Times = tuple[float, float, float, int]


def roads(given: argparse.Namespace) -> dict[str, str]:
    """Command by name, in the order of the README, for the data that was given."""
    found = {}
    if given.photos:
        found |= {
            "version": "--version",
            "list": "list",
            "check": "check {photos}",
            "show": "show mae {photos} -o {out}/split.png",
            "pretrain auto": "pretrain auto --data {photos} --out {out}/first --steps 1",
            "pretrain mae": "pretrain mae --data {photos} --out {out}/mae --steps 1",
            "doctor": "doctor {out}/mae",
            "suggest": "suggest {out}/mae --data {photos} -n 20 --out {out}/suggested",
            "search": "search {out}/mae {query} --data {photos} -o {out}/near.png",
            "embed": "embed {out}/mae {photos} -o {out}/features.parquet",
            "report": "report {out}/mae",
            "export": "export {out}/mae --to hf -o {out}/hf",
            "pretrain mixture": "pretrain mixture --data run:{out}/mae --out {out}/groups",
            "pretrain vae": "pretrain vae --data {photos} --out {out}/vae --steps 1",
            "sample": "sample {out}/vae -o {out}/samples.png",
        }
    if given.photos and given.labelled:
        found |= {
            "evaluate": "evaluate {out}/mae --data {labelled} --labels-per-class 1,10 --minutes 2",
            "finetune": "finetune {out}/mae --data {labelled} --out {out}/model --steps 1",
            "predict": "predict {out}/model {photos} -o {out}/labels.csv",
        }
    if given.texts:
        found |= {
            "pretrain bert": "pretrain bert --data {texts} --out {out}/bert --steps 1",
            "fill": 'fill {out}/bert "what a [MASK] film"',
            "pretrain transformer_lm": "pretrain transformer_lm --data {texts} --out {out}/lm --steps 1",
            "generate": "generate {out}/lm --prompt Once",
        }
    if given.texts and given.labels_of_texts:
        found["evaluate texts"] = "evaluate {out}/bert --data {labels_of_texts} --labels-per-class 1,10 --minutes 2"
    return found


def timed(words: list[str], profile: Path | None = None) -> Times:
    """Seconds until something appears, seconds by the clock, CPU seconds, exit code."""
    for option in ("--out", "-o"):  # made anew each time
        if option in words:
            target = Path(words[words.index(option) + 1])
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    program = [sys.executable, *(["-m", "cProfile", "-o", str(profile)] if profile else []), "-m", "withheld", *words]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(program, stdout=errors, stderr=subprocess.STDOUT) as process,
    ):
        first = 0.0
        while process.poll() is None:
            if not first and os.fstat(errors.fileno()).st_size:
                first = time.monotonic() - begun
            time.sleep(0.01)
        whole = time.monotonic() - begun
        if process.returncode:
            errors.seek(0)
            print(errors.read().decode("utf-8", "replace")[-2000:], file=sys.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return first or whole, whole, spent, process.returncode


def main() -> None:
    """Prints a line for every command, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="images without labels")
    parser.add_argument("--labelled", type=Path, help="images with labels")
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--labels-of-texts", type=Path)
    parser.add_argument("--only", default="", help="names of commands, comma-separated")
    parser.add_argument("--profile", type=int, default=0, metavar="N")
    parser.add_argument("--out", type=Path, default=Path("runs/commands"))
    given = parser.parse_args()
    known = roads(given)
    if not known:
        parser.error("name --photos or --texts")
    chosen = [name for name in known if not given.only or name in given.only.split(",")]
    given.out.mkdir(parents=True, exist_ok=True)
    cache = Path(os.environ.setdefault("WITHHELD_CACHE", str(given.out / "cache")))
    if not given.only:
        shutil.rmtree(cache, ignore_errors=True)
    query = next((path for path in sorted(given.photos.rglob("*")) if path.is_file()), "") if given.photos else ""
    told = {name: str(value) for name, value in vars(given).items()} | {"query": str(query)}
    rows = []
    for name in chosen:
        words = [word.format(**told) for word in shlex.split(known[name])]
        cold, warm = timed(words), timed(words)
        rows.append(f"| {name} | {cold[0]:.1f} | {cold[1]:.1f} | {cold[2]:.1f} | {warm[1]:.1f} |")
        print(rows[-1] + (f" exit {cold[3]}" if cold[3] else ""), flush=True)
        if given.profile:
            with tempfile.TemporaryDirectory() as folder:
                timed(words, Path(folder) / "profile")
                pstats.Stats(str(Path(folder) / "profile")).sort_stats("tottime").print_stats(given.profile)
    print("\n| command | first word, s | whole, s | CPU, s | warm, s |\n| --- | --- | --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
