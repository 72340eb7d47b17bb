"""Edits the photographs of an unedited run by an editor that is a black box, and writes them as a dataset.

The editor is a function `package.module:function` of a PIL image and a prompt, the address of an OpenAI-compatible
server, or a diffusers pipeline with image and prompt. What it makes is laid over the photographs or rejected, what it
changes in one view alone is left out, and what it made once is kept. Train anything on the dataset, or finish the scene
with `latenteditor finish`.
"""

import shlex
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from latenteditor.black_box.settings import require_usable
from latenteditor.editing.editor import require_instruction
from latenteditor.handoff.write_pictures import PictureConfig, read_rejected, write_edited_pictures
from latenteditor.runs import say


@dataclass(kw_only=True)
class Args(PictureConfig):
    """Which photographs, which editor, and where to."""

    load_config: Path
    """The config.yml of an unedited run of dense-nerfacto or nerfacto on the capture."""
    output_dir: Path
    """The dataset's folder; there must be none yet."""


def main(args: Args) -> None:
    """Writes the dataset, and says what it holds."""
    require_instruction(args.edit.prompt)
    require_usable(args.black_box)
    command = shlex.join(["latenteditor", *sys.argv[1:]])
    how = PictureConfig(**{entry.name: getattr(args, entry.name) for entry in fields(PictureConfig)})
    written = write_edited_pictures(args.load_config.absolute(), args.output_dir.absolute(), how, command)
    edited = sum(view.share > 0 for view in written)
    rejected = len(read_rejected(args.output_dir))
    say(f"{len(written)} photographs, {edited} of them edited, {rejected} results rejected: {args.output_dir}")
