"""Compares samplers, their numbers of steps, and intervals of guidance, on single views whose truth is known.

Choose on one range of seeds and report on another: `latenteditor editor evaluate` measures the setting that was chosen.
"""

from dataclasses import dataclass
from pathlib import Path

from latenteditor.figures import write_figures
from latenteditor.miniature.sampler_sweep import SamplerSweepConfig, sweep_samplers


@dataclass(kw_only=True)
class Args(SamplerSweepConfig):
    """What to compare, on what, and where to write it."""

    output: Path
    """The JSON file to write, with every setting."""


def main(args: Args) -> None:
    """Measures every setting, writes all and prints them."""
    rows = sweep_samplers(args)
    content = {
        "model": args.edit.model,
        "first_seed": args.first_seed,
        "num_cases": args.num_cases,
        "size": args.size,
        "reference_steps": args.reference_steps,
        "settings": rows,
    }
    write_figures(args.output, content)
    for row in rows:
        figures = {name: f"{value:.3f}" if isinstance(value, float) else value for name, value in row.items()}
        print("   ".join(f"{name} {value}" for name, value in figures.items()))
    print(f"All settings: {args.output}")
