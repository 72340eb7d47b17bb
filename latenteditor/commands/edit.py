"""From photographs to a sharp edited scene by one command: reconstruction, edit, edited photographs, finish, report.

Run it again with the same folder to go on where it was interrupted: what is done is not done again. Give it runs that
are there already by --reconstruction and --base. Everything is an ordinary run of ns-train or a file that other tools
read; report.html shows what came of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import tyro

from latenteditor.devices import default_device
from latenteditor.handoff.finish import default_method
from latenteditor.handoff.journey import make
from latenteditor.handoff.whole_edit import REPORT, WholeEdit, WholeEditConfig, require_whole
from latenteditor.miniature.settings import EDIT
from latenteditor.networks.models import MINIATURE
from latenteditor.runs import say


@dataclass(kw_only=True)
class Args(WholeEditConfig):
    """Which capture, what to change, and how."""

    data: Path
    """The capture's folder, as ns-process-data writes it."""
    prompt: str
    """What to change, as in "turn the bear into a panda"."""
    output_dir: Path
    """Folder of everything. Pass it again to go on where it was interrupted."""
    method: str | None = None
    """The method of the finished scene: nerfacto, splatfacto or any other that ns-train knows. None takes splatfacto
    where there is CUDA, and elsewhere dense-nerfacto, which needs none."""
    base: Path | None = None
    """The config.yml of an unedited run of that method on the capture, if there is one."""
    reconstruction: Path | None = None
    """The config.yml of a latent-nerfacto run on the capture, if there is one."""
    device: str = default_device()
    """Where to train: any device nerfstudio knows. The GPU where there is one."""


def parse_args(words: Sequence[str]) -> Args:
    """The arguments of a command line; those of the edit default to what suits its model."""
    read = partial(tyro.cli, Args, args=words, description=__doc__, prog="latenteditor edit")
    args = read()
    return args if args.edit.model != MINIATURE else read(default=replace(args, edit=EDIT))


def main(args: Args) -> None:
    """Does what is not done yet, and says where to look."""
    if args.edit.prompt:
        raise ValueError("Say what to change by --prompt alone: --edit.prompt is not for this command.")
    config = WholeEditConfig(**{entry.name: getattr(args, entry.name) for entry in fields(WholeEditConfig)})
    whole = WholeEdit(
        data=args.data.absolute(),
        folder=args.output_dir.absolute(),
        prompt=args.prompt.strip(),
        method=args.method or default_method(args.device),
        config=config,
        device=args.device,
        base=None if args.base is None else args.base.absolute(),
        reconstruction=None if args.reconstruction is None else args.reconstruction.absolute(),
    )
    require_whole(whole)
    make(whole, say)
    say(f"Report: {whole.folder / REPORT}")
    say(f"The finished scene: ns-viewer --load-config {whole.finished}")
