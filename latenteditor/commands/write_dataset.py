"""Writes the photographs of an edited run's capture as the edit leaves them, as a dataset that any tool reads.

Every view is edited once more from the edited scene, decoded, and laid over its photograph at native size; what the
edit does not touch stays the photograph's, bit for bit. Held-out views show what the scene shows from there. Train
anything on it: ns-train splatfacto --data DIR, or `latenteditor finish`.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from latenteditor.handoff.dataset import Format
from latenteditor.handoff.write import SETTLE_NOISE, write_edited_dataset
from latenteditor.runs import say


@dataclass
class Args:
    """Which run, and where to."""

    load_config: Path
    """The config.yml of the edited run."""
    output_dir: Path
    """The dataset's folder; there must be none yet."""
    format: Format = "nerfstudio"
    """How the dataset is described: transforms.json, as nerfstudio reads it and most other tools do, or images/ and
    sparse/0 as COLMAP leaves them."""
    settle_noise: float = SETTLE_NOISE
    """What each view is edited from: 1 is noise alone, less keeps to what the edited scene shows. Measured by us."""


def main(args: Args) -> None:
    """Writes the dataset, and says what it holds."""
    command = shlex.join(["latenteditor", *sys.argv[1:]])
    written = write_edited_dataset(args.load_config, args.output_dir, args.format, args.settle_noise, command)
    edited = sum(view.share > 0 for view in written)
    say(f"{len(written)} photographs, {edited} of them edited: {args.output_dir}")
