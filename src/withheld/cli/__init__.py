"""The command line: parse, call, print. Heavy modules are imported inside the commands, so `--help` answers at once."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from withheld.cli.ending import ending

# Threads of OpenMP wait for each other busily, for milliseconds at every product. Where other programs want the processors
# too, small products then take hundreds of times as long; a tenth of a millisecond is enough. Read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# Verb: (file, one line). The line stands here so that listing the commands imports none of them.
COMMANDS = {
    "demo": ("demo", "See it all on data that ships with the install, in about 3 minutes."),
    "list": ("look", "The methods, a line each."),
    "check": ("look", "What is in my data, what to run on it, and what it will cost. Trains nothing."),
    "show": ("show", "Draw what a method hides, and with a run what it predicts."),
    "methods": ("look", "The documentation of every method."),
    "pretrain": ("train", "Learn from unlabelled data."),
    "doctor": ("doctor", "Is it learning? What ails a run, and the cure."),
    "evaluate": ("judge", "Did it help? The verdict, with baselines and intervals."),
    "probe-shortcuts": ("probe", "Was the task solved by cheating?"),
    "suggest": ("choose", "Which items to label first: a labels.csv to fill in, and a sheet to look at."),
    "search": ("choose", "The items nearest to one."),
    "report": ("judge", "Write the page of a run, and print where it is."),
    "finetune": ("train", "Make a classifier from a run and a few labels, or a detector from boxes."),
    "predict": ("use", "Label files with a classifier."),
    "detect": ("detection", "Find objects in images, and draw their boxes."),
    "track": ("video", "Follow what a mask marks through a clip."),
    "embed": ("use", "Turn files into vectors."),
    "export": ("use", "Hand the encoder to transformers or ONNX."),
    "colorize": ("colorize", "Give grey pictures color."),
    "sample": ("generate", "Draw new items from a model of latent variables."),
    "traverse": ("generate", "Draw what each dimension of z does."),
    "interpolate": ("generate", "The way from one image, or sentence, to another."),
    "score": ("words", "How likely a sentence is, word by word."),
    "fill": ("words", "What stands where [MASK] is."),
    "generate": ("words", "How a text goes on, or a clip."),
    "likelihood": ("generate", "How likely held-out items are, nats an item."),
    "fidelity": ("generate", "How like real images the samples of a run are."),
    "run": ("recipe", "Run a recipe: one YAML file, one reproducible result."),
}

EXIT_CODES = """\b
Exit codes:
  0    done
  1    doctor --strict: the run is sick
  2    bad input or settings; a RUN that exists, without --resume
  3    the loss diverged, or the run fell ill with --on-sick stop; the last checkpoint is kept
  73   the run folder is in use
  74   cannot write: disk full, or read-only
  75   a process, the memory or the network failed; --resume continues
  130  Ctrl-C, 143 SIGTERM: a checkpoint was written first"""


def at_home(word: str) -> str:
    """A path below `~`, also where the shell leaves it as it is: in quotes, or behind `--out=`."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return option + equals + os.path.expanduser(value) if value.startswith("~/") else word


class LazyGroup(click.Group):
    """Imports a command when it is asked for, and ends every error with its documented exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"withheld.cli.{COMMANDS[cmd_name][0]}")
        return getattr(module, f"{cmd_name.replace('-', '_')}_command")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from withheld.errors import nearest

            raise click.UsageError(f"there is no command {args[0]!r}: {nearest(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        args = [at_home(word) for word in (sys.argv[1:] if args is None else args)]
        if not extra.pop("standalone_mode", True):
            return super().main(args, prog_name, standalone_mode=False, **extra)
        return ending(lambda: super(LazyGroup, self).main(args, prog_name, standalone_mode=False, **extra))


@click.group("withheld", cls=LazyGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="withheld", prog_name="withheld")
def main() -> None:
    """Withhold a part of your data, learn to predict it, keep what was learned.

    \b
    Start here:
      withheld demo
      withheld check photos/
      withheld pretrain auto --data photos/ --out runs/first --minutes 10
      withheld suggest runs/first --data photos/ -n 100
      withheld evaluate runs/first --data labelled/

    labelled/ holds one folder per class, or a labels.csv with the columns file and label. Nothing that
    exists is written over without --force.
    """
