"""Compares this package's methods on built-in worlds: what each makes of an edit after how many seconds.

Every world is photographed and learnt once in latents and once in colours; every method then edits it by every prompt,
which recolours one solid, or does to it what --kinds names. Edits are measured on held-out views against the truth with
the clock stopped. Each run has a process of its own. Written are results.json, points.csv, table.md, overview.png of
all edits, curves.png of each, and a picture of the held-out views for each edit (rows: photographs, truth, methods in
their order). With --resume, the same command goes on where it was interrupted, and may then have further worlds,
prompts and methods.
"""

import shlex
import sys

from latenteditor.benchmark.comparison import ComparisonConfig as Args
from latenteditor.benchmark.comparison import compare_methods
from latenteditor.runs import say

__all__ = ["Args", "main"]


def main(args: Args) -> None:
    """Runs what has not been run yet, and reports on everything."""
    table = compare_methods(args, _typed(), say)
    say(f"\n{table}\nWritten to {args.output}.")


def _typed() -> str:
    """What was typed, as the table shows it."""
    words = sys.argv[1:]
    return shlex.join(["latenteditor", *([] if words[:1] == ["benchmark"] else ["benchmark"]), *words])
