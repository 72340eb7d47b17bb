"""Writes the photographs of an edited run's capture as the edit leaves them, as a dataset that any tool reads.

Every view is edited once more from the edited scene, decoded, and laid over its photograph at native size; what the
edit does not touch stays the photograph's, bit for bit. Held-out views show what the scene shows from there. Train
anything on it: ns-train splatfacto --data DIR, or `latenteditor finish`.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from latenteditor.handoff.write import WriteConfig, write_edited_dataset
from latenteditor.runs import say


@dataclass(kw_only=True)
class Args(WriteConfig):
    """Which run, where to, and how."""

    load_config: Path
    """The config.yml of the edited run."""
    output_dir: Path
    """The dataset's folder; there must be none yet."""


def main(args: Args) -> None:
    """Writes the dataset, and says what it holds."""
    command = shlex.join(["latenteditor", *sys.argv[1:]])
    how = WriteConfig(args.format, args.settle_noise, args.views)
    written = write_edited_dataset(args.load_config.absolute(), args.output_dir, how, command)
    edited = sum(view.share > 0 for view in written)
    say(f"{len(written)} photographs, {edited} of them edited: {args.output_dir}")
