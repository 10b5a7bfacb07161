"""What is promised of reliability and security, and what the last run of the tests counted: docs/reliability.md.

    make promises                      # runs the tests that count, the slow ones too, and writes the page
    python benchmarks/promises.py      # writes the page from docs/promises.json
    python benchmarks/promises.py --readme    # prints the short table

docs/promises.json is written by `pytest tests --promises docs/promises.json`; lines of tests that did not run are kept, with
their date.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COUNTED = ROOT / "docs" / "promises.json"
PAGE = ROOT / "docs" / "reliability.md"

PROMISES = {
    "R1": "Killed with SIGKILL at any moment, a resumed run ends bit-identical: weights, optimizer, teacher, log, order of items",
    "R2": "Also when it dies at any call of a save",
    "R3": "A damaged checkpoint is noticed, named, and the one before it used",
    "R4": "A full disk ends the run with exit 74 and leaves the last good checkpoint",
    "R5": "A folder that cannot be written to is refused before anything is read",
    "R6": "Broken images are skipped, counted and listed exactly; none is half used",
    "R7": "An image that unfolds to gigabytes costs nothing",
    "R8": "Broken videos: all frames, or fewer and a note, or refused; nothing but the file itself is opened",
    "R9": "A dead or hung data worker",
    "R10": "Any text file: mended and counted, or refused with the reason",
    "R11": "A wrong label sheet is refused: file, line, value, remedy, all errors at once",
    "R12": "NaN and infinity stop the run within the step and never reach a checkpoint",
    "R13": "SIGTERM at any moment: a checkpoint, exit 143, resumed to the same bits",
    "R14": "Ctrl-C: as SIGTERM, exit 130; twice is obeyed at once",
    "R15": "Several processes compute what one computes; their number may change on resume",
    "R16": "A rank that dies, hangs or raises ends all within a minute: exit 75, resumable, nobody left behind, only rank 0 writes",
    "R17": "Two runs never write to one folder: exit 73",
    "R18": "Resuming with other settings or data shows the difference: exit 2",
    "R19": "No item, one item, equal items",
    "R20": "Any file name",
    "R21": "Too little memory: one clear line, exit 75, the last checkpoint intact",
    "R22": "Memory and open files stay flat",
    "R23": "A source across the network that breaks",
    "R24": "What is exported computes the same",
    "S1": "Pickles are never opened",
    "S2": "A stranger's config, tokenizer or processor runs no code and fills no memory",
    "S3": "Archives are streamed, never extracted; nothing outside the folder is read or written",
    "S4": "Names, labels, EXIF and errors add no element to the report",
    "S5": "No formula in a table that is written, no control character on the terminal",
    "S6": "A demo server that reads files of others",
    "S7": "A demo server under load",
    "S8": "A playlist named as a video opens no address and no other file",
    "S9": "An ONNX file of ours holds its weights itself",
    "S10": "A recipe is data: no tags, no aliases, no depth",
    "S11": "No pattern of ours takes long on any text",
    "S12": "Links out of the data are not followed",
    "S13": "Tokens and passwords stay out of run.json, log and report",
    "S14": "No known weakness in what is installed",
}
NOT_HERE = {
    "R9": "Not needed: no worker processes. Items are decoded once, on threads; training reads a memory map.",
    "S6": "Not needed: nothing here serves requests; `withheld demo` writes files.",
    "S7": "Not needed: see S6.",
}
SHORT = ("R1", "R2", "R3", "R4", "R6", "R8", "R10", "R13", "R14", "R15", "R16", "S1", "S2", "S3", "S4")


def counted(path: Path = COUNTED) -> dict[str, Any]:
    """What the tests counted.

    Raises:
        SystemExit: where they have not been run.
    """
    if not path.is_file():
        raise SystemExit(f"{path} is not there: run `make promises`")
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def gathered(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of single methods, "campaign: kills of NAME, ..." and "every call of a run of NAME that ...", as one each."""
    rest, sums = [], {}
    for line in lines:
        if found := re.fullmatch(r"(campaign: kills|every call of a run) of (\w{1,40})(.{1,200})", line["what"]):
            sums.setdefault((found[1], found[3]), []).append(line)
        else:
            rest.append(line)
    for (what, end), some in sums.items():
        good, of = (sum(line[name] for line in some) for name in ("good", "of"))
        rest.append({**some[0], "what": f"{what} of {len(some)} methods{end}", "good": good, "of": of})
    return rest


def figures(lines: list[dict[str, Any]], largest: int = 99) -> str:
    """What was counted for a promise, in words: the largest counts first."""
    told = []
    for line in sorted(gathered(lines), key=lambda line: -line["of"])[:largest]:
        if line["skipped"] and not line["of"]:
            told.append(f"{line['what']}: not run here ({line['skipped'].removeprefix('Skipped: ')})")
        else:
            told.append(f"{line['good']:,} of {line['of']:,} {line['what']}")
    return "; ".join(told)


def page(found: dict[str, Any]) -> str:
    """docs/reliability.md."""
    rows = []
    for number, promise in PROMISES.items():
        lines = [line for line in found["lines"] if line["number"] == number]
        told = figures(lines) or NOT_HERE.get(number) or "**not proven yet**"
        files = sorted({test.split("::")[0].removeprefix("tests/") for line in lines for test in line["tests"]})
        rows.append(f"| {number} | {promise} | {told} | {', '.join(f'`{name}`' for name in files)} |")
    dates = sorted({line["date"] for line in found["lines"]})
    when = dates[-1] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    split = next(i for i, number in enumerate(PROMISES) if number == "S1")
    head = "| | promise | counted | tests |\n| --- | --- | --- | --- |\n"
    return (
        "# What is promised, and what was counted\n\n"
        "Made by `make promises` from the last run of the tests; do not edit. "
        f"Counted {when} on {found['machine']}.\n\n"
        "Every line is a test in `tests/`, most of them run with every change; those of minutes are marked `slow` and run by "
        "`make promises`. Kills are real: a process gets SIGKILL at a random moment, or just before call k to the disk, and the "
        "resumed run is compared with one that was never stopped, byte by byte: weights, optimizer, encoder, log, which items "
        "every step saw, what was skipped. This holds on one machine with the same versions and number of threads.\n\n"
        f"## Reliability\n\n{head}"
        + "\n".join(rows[:split])
        + f"\n\n## Security\n\n{head}"
        + "\n".join(rows[split:])
        + "\n"
    )


def readme(found: dict[str, Any]) -> str:
    """The short table."""
    rows = ["| promise | counted in the last run of the tests |", "| --- | --- |"]
    for number in SHORT:
        lines = [line for line in found["lines"] if line["number"] == number and line["of"]]
        if lines:
            rows.append(f"| {PROMISES[number]} | {figures(lines, 2)} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", action="store_true", help="print the short table and write nothing")
    arguments = parser.parse_args()
    found = counted()
    if arguments.readme:
        print(readme(found), end="")
        return
    PAGE.write_text(page(found), encoding="utf-8")
    print(f"{PAGE}: {len(found['lines'])} lines counted")


if __name__ == "__main__":
    main()
