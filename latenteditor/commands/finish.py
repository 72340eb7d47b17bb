"""Makes a sharp scene of an edited run: its photographs, edited at native size, learnt in colours by any method.

The edited photographs are written first, as `latenteditor write-dataset` does, unless they are there. What comes of it
is an ordinary run of the method that learns them: open it with ns-viewer, render it with ns-render, export splats with
ns-export gaussian-splat.
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from latenteditor.devices import default_device
from latenteditor.handoff.finish import (
    DATASET,
    Finish,
    default_method,
    finish_config,
    is_finished,
    require_device,
    require_same_edit,
    set_up_finish,
)
from latenteditor.handoff.write import WriteConfig, write_edited_dataset
from latenteditor.runs import say


@dataclass
class Args:
    """Which edited run, which method, and where to."""

    load_config: Path
    """The config.yml of the edited run."""
    output_dir: Path
    """Folder of everything: dataset/ and the run. Pass it again to go on where it was interrupted."""
    method: str | None = None
    """The method that learns the edited photographs: nerfacto, splatfacto or any other that ns-train knows. None takes
    splatfacto where there is CUDA, and elsewhere dense-nerfacto, which needs none."""
    base: Path | None = None
    """The config.yml of an unedited run of that method on the same capture. The finish starts from it: much sooner
    done, and what was not edited stays as sharp as it was."""
    steps: int | None = None
    """Training steps. None takes 300 from a base, and the method's own number without one."""
    photographs: WriteConfig = field(default_factory=WriteConfig)
    """How the edited photographs are written, see `latenteditor write-dataset`."""
    device: str = default_device()
    """Where to train: any device nerfstudio knows. The GPU where there is one."""


def main(args: Args) -> None:
    """Writes the dataset and trains on it, as far as that is not done, and says what to type next."""
    output = args.output_dir.absolute()
    finish = Finish(
        dataset=output / DATASET,
        edited=args.load_config.absolute(),
        output=output,
        method=args.method or default_method(args.device),
        base=None if args.base is None else args.base.absolute(),
        steps=args.steps,
        device=args.device,
    )
    if args.photographs.format != "nerfstudio":
        raise ValueError("The finish reads nerfstudio's format: leave --photographs.format as it is.")
    finish_config(finish)  # Refused now rather than after the edits.
    if finish.dataset.exists():
        require_same_edit(finish.dataset, finish.edited)
    else:
        command = shlex.join(["latenteditor", *sys.argv[1:]])
        write_edited_dataset(finish.edited, finish.dataset, args.photographs, command)
    if not is_finished(finish):
        require_device(finish)
        set_up_finish(finish).train()
    say(f"The finished scene: ns-viewer --load-config {finish.run / 'config.yml'}")
