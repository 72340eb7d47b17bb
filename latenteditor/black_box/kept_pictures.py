"""What a black box made, kept on disk by content: the same question is never paid for twice."""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from latenteditor.editing.black_box import BlackBox
from latenteditor.pictures import read_image, to_picture, write_picture

VERSION = 1
"""Of the keys: raised where what lies behind one would be made otherwise."""


class KeptPictures:
    """Asks a black box what it has not been asked before, and keeps every answer as a PNG."""

    def __init__(self, editor: BlackBox, folder: Path) -> None:
        """Makes the folder when there is something to keep."""
        self.editor, self.folder = editor, folder
        self.found = 0
        """Answers that lay on the disk."""

    def edit_picture(
        self,
        picture: Float[Tensor, "3 height width"],
        instruction: str,
        seed: int,
        references: Sequence[Float[Tensor, "3 _ _"]] = (),
    ) -> Float[Tensor, "3 _ _"]:
        """The editor's picture in 8 bits, from the disk where it lies there.

        Raises:
            NoPicture: The editor gave none this time.
            ValueError: It will give none at all.
        """
        file = self.file(picture, instruction, seed, references)
        if file.is_file():
            self.found += 1
        else:
            shown = list(references)[: self.editor.most_references]
            _write_whole(file, self.editor.edit_picture(picture, instruction, seed, shown))
        return read_image(file)

    def file(
        self,
        picture: Float[Tensor, "3 height width"],
        instruction: str,
        seed: int,
        references: Sequence[Float[Tensor, "3 _ _"]] = (),
    ) -> Path:
        """Where the answer to a question lies, or would lie."""
        asked = [VERSION, self.editor.identity, instruction, seed]
        digest = hashlib.sha256(json.dumps(asked).encode())
        for each in (picture, *list(references)[: self.editor.most_references]):
            pixels = to_picture(each)
            digest.update(json.dumps(pixels.shape).encode() + pixels.tobytes())
        key = digest.hexdigest()
        return self.folder / key[:2] / f"{key}.png"


def _write_whole(file: Path, picture: Float[Tensor, "3 height width"]) -> None:
    """Writes a picture so that whoever looks finds all of it, or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=".", suffix=".png", dir=file.parent)
    os.close(handle)
    try:
        write_picture(Path(partial), to_picture(torch.nan_to_num(picture)))
        os.replace(partial, file)
    finally:
        Path(partial).unlink(missing_ok=True)
