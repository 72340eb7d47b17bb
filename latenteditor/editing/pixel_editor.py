"""How one image is edited: into latents, through an editor of latents, and back into an image.

Instruct-NeRF2NeRF trains on images and edits them with a latent diffusion model, so each edit passes the
autoencoder twice. With no mask this is its edit; a mask keeps the image outside it as it was, bit for bit.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from latenteditor.editing.dataset_update import Resumable
from latenteditor.editing.delta_mask import blend
from latenteditor.editing.editor import Edit, Editor, LatentEditor, Surveyor
from latenteditor.editing.failures import mark_constants


@runtime_checkable
class ImageAutoencoder(Protocol):
    """A frozen network between images in [0, 1] and scaled latents."""

    @property
    def factor(self) -> int:
        """Pixels along each side of a latent cell."""
        ...

    def encode(self, images: Float[Tensor, "views 3 height width"]) -> Float[Tensor, "views channels rows columns"]:
        """The latents of images whose sides are multiples of `factor`."""
        ...

    def decode(self, latents: Float[Tensor, "views channels rows columns"]) -> Float[Tensor, "views 3 height width"]:
        """The images of latents."""
        ...


class PixelEditor:
    """Edits images by an editor of latents."""

    def __init__(self, editor: Editor, autoencoder: ImageAutoencoder) -> None:
        """Enters and leaves the latents of `editor` through `autoencoder`."""
        self.editor = editor
        self.autoencoder = autoencoder

    @torch.no_grad()
    def edit(
        self,
        rendered: Float[Tensor, "views 3 height width"],
        bases: Float[Tensor, "views 3 height width"],
        views: Sequence[int],
        instruction: str,
    ) -> Edit:
        """M D(z_e) + (1 - M) I: the decoded edit in the mask, the base elsewhere; all of the renderings' size."""
        bases = bases.to(rendered)
        height, width = rendered.shape[-2:]
        rendered_latents, base_latents = (self.encode(images) for images in (rendered, bases))
        edited, mask, score = self.editor.edit(rendered_latents, base_latents, views, instruction)
        images = _resize(self.autoencoder.decode(edited), (height, width))
        mask = _enlarge(mask.float(), (height, width)) > 0
        score = None if score is None else _enlarge(score, (height, width))
        return Edit(mark_constants(blend(mask, images, bases), mask, bases), mask, score)

    def encode(self, images: Float[Tensor, "views 3 height width"]) -> Float[Tensor, "views channels rows columns"]:
        """The latents of images of any size."""
        height, width = images.shape[-2:]
        return self.autoencoder.encode(_resize(images, (self._multiple(height), self._multiple(width))))

    def surveyed(self, instruction: str) -> bool:
        """Whether the editor of latents knows all views, or does not look before it edits."""
        return not isinstance(self.editor, Surveyor) or self.editor.surveyed(instruction)

    @torch.no_grad()
    def survey(self, bases: Sequence[Float[Tensor, "3 _ _"]], instruction: str) -> list[Bool[Tensor, "1 _ _"]]:
        """The masks of all views, at the resolution of their latents; no mask stands for all of a view."""
        if not isinstance(self.editor, Surveyor):
            return [torch.ones(1, 1, 1, dtype=torch.bool)]
        return self.editor.survey([self.encode(image[None])[0] for image in bases], instruction)

    def forget(self) -> None:
        """Lets the editor of latents drop what it knows of the views."""
        if isinstance(self.editor, Surveyor):
            self.editor.forget()

    def state_dict(self) -> dict[str, Any]:
        """The state of the editor of latents, if it has one."""
        return self.editor.state_dict() if isinstance(self.editor, Resumable) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if isinstance(self.editor, Resumable):
            self.editor.load_state_dict(state)

    def _multiple(self, side: int) -> int:
        """The nearest length that latent cells fill."""
        factor = self.autoencoder.factor
        return factor * max(1, round(side / factor))


def latent_editor_of(editor: Editor) -> LatentEditor:
    """What edits latents: the editor itself, or the one that an editor of images reaches through its autoencoder."""
    inner: Any = editor.editor if isinstance(editor, PixelEditor) else editor
    return inner


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images of another (height, width), interpolated as Instruct-NeRF2NeRF does."""
    if tuple(images.shape[-2:]) == size:
        return images
    return functional.interpolate(images, size, mode="bilinear")


def _enlarge(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """The cells as pixels, each with the value of the cell it lies in."""
    return functional.interpolate(cells, size, mode="nearest-exact")
