"""Compares settings of the delta mask on single views whose true region is known; writes all figures as JSON.

Choose on one range of seeds and report on another: `latenteditor editor evaluate` measures the setting that was chosen.
"""

from dataclasses import dataclass
from pathlib import Path

from latenteditor.figures import write_figures
from latenteditor.miniature.mask_sweep import SweepConfig, sweep

SHOWN = 15
"""Settings that are printed."""


@dataclass(kw_only=True)
class Args(SweepConfig):
    """What to compare, on what, and where to write it."""

    output: Path
    """The JSON file to write, with every setting, the best first."""


def main(args: Args) -> None:
    """Measures every setting, writes all and prints the best."""
    rows = sweep(args)
    content = {"model": args.model, "first_seed": args.first_seed, "num_cases": args.num_cases, "settings": rows}
    write_figures(args.output, content)
    for row in rows[:SHOWN]:
        figures = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in row.items()}
        print("   ".join(f"{name} {value}" for name, value in figures.items()))
    print(f"All settings: {args.output}")
